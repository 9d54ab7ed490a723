"""The command line that both services have: `serve`, `migrate` and `import`."""

import argparse
import gc
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import uvloop

from servicekit.database.engine import close_engine, create_engine
from servicekit.database.errors import DatabaseUnavailableError
from servicekit.database.migrations import Migrations
from servicekit.importing.importer import ImportRequest, LineImporter, run_import
from servicekit.importing.lines import ImportFailedError
from servicekit.process.addresses import ExposedWithoutAuthenticationError
from servicekit.process.log import configure_logging, protect_stderr, redact_url_passwords
from servicekit.process.service_settings import ServiceSettings
from servicekit.process.settings import SettingsError
from servicekit.rpc.server import AddressInUseError, BackgroundEndedError

S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")

_EXIT_FAILED = 1
_EXIT_USAGE = 2


@dataclass(frozen=True, slots=True)
class Service(Generic[S]):
    """A service: what its command line runs."""

    # The name of its package, of its migrations (`<name>:migrations`) and, in capitals, of its variables.
    name: str
    settings: type[S]
    # Serves until SIGTERM; given the settings and whether to migrate first.
    serve: Callable[[S, bool], Awaitable[None]]
    # Makes the importer of lines, given the files' names.
    importer: Callable[[Sequence[str]], LineImporter]

    @property
    def migrations(self) -> Migrations:
        """The migrations of its database."""
        return Migrations(f"{self.name}:migrations")

    async def migrate(self, settings: S) -> None:
        """Bring its database up to date, on a connection of its own: a migration may take longer than a statement."""
        engine = create_engine(
            settings.database_url.get_secret_value(),
            application_name=f"{self.name}-migrate",
            pool_size=1,
            statement_timeout_seconds=0.0,
        )
        try:
            await self.migrations.upgrade(engine)
        finally:
            await close_engine(engine)


def run_service(service: Service[S]) -> int:
    """Run the service's command line and return its exit code.

    An error that an operator can mend is one line on standard error; any other is a bug and keeps its traceback.
    """
    protect_stderr()
    arguments = _parser(service.name).parse_args()
    prefix = service.name.upper()
    code = 0
    try:
        settings = service.settings.from_environment()
        configure_logging(service=service.name, level=settings.log_level)
        if arguments.command == "migrate":
            uvloop.run(service.migrate(settings))
        elif arguments.command == "import":
            request = ImportRequest(arguments.files, migrate=arguments.migrate, ask=arguments.ask)
            code = 0 if uvloop.run(_import(service, settings, request)) else _EXIT_FAILED
        else:
            _collect_less()
            uvloop.run(_as_coroutine(service.serve(settings, arguments.migrate)))
    except SettingsError as exc:
        code = _fail(f"{exc}", _EXIT_USAGE)
    except ExposedWithoutAuthenticationError as exc:
        code = _fail(
            f"{prefix}_LISTEN: {exc} can be reached from other machines and this server has no authentication. "
            f"Listen on 127.0.0.1, or set {prefix}_INSECURE=true if the network keeps strangers out.",
            _EXIT_USAGE,
        )
    except DatabaseUnavailableError as exc:
        reason = redact_url_passwords(str(exc.__cause__)) or type(exc.__cause__).__name__
        code = _fail(f"{prefix}_DATABASE_URL: the database cannot be reached: {reason}", _EXIT_FAILED)
    except ImportFailedError as exc:
        code = _fail(f"{exc}", _EXIT_FAILED)
    except AddressInUseError as exc:
        code = _fail(
            f"{prefix}_LISTEN: {exc} cannot be listened on: another process has it, or it is no address of this machine",
            _EXIT_FAILED,
        )
    except BackgroundEndedError as exc:
        code = _fail(f"stopped because background work ended: {exc}", _EXIT_FAILED)
    return code


def _collect_less() -> None:
    # What is loaded by now stays. A call makes hundreds of objects and leaves none: looking for garbage after every 700 of
    # them would cost a twentieth of all processor time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{name}-service", description=f"The {name} service.")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="serve RPCs until SIGTERM or Ctrl-C")
    serving.add_argument("--migrate", action="store_true", help="bring the database up to date first")
    commands.add_parser("migrate", help="bring the database up to date and exit")
    importing = commands.add_parser("import", help="write rows of the system before, all or none, and exit")
    importing.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help="JSON Lines, see docs/import.md"
    )
    importing.add_argument("--migrate", action="store_true", help="bring the database up to date first")
    importing.add_argument(
        "--ask", action="store_true", help="write only after a confirmation on standard input"
    )
    return parser


async def _import(service: Service[S], settings: S, request: ImportRequest) -> bool:
    return await run_import(
        request,
        service.importer,
        url=settings.database_url.get_secret_value(),
        application_name=f"{service.name}-import",
        migrations=service.migrations,
    )


async def _as_coroutine(work: Awaitable[T]) -> T:
    return await work


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - for the person who started it, not for the log
    return code
