"""The command line that both services have: `serve`, `migrate` and `import`."""

import argparse
import gc
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import uvloop

from servicekit.database.engine import DatabaseUnavailableError
from servicekit.importing.importer import ImportRequest
from servicekit.importing.lines import ImportFailedError
from servicekit.process.addresses import ExposedWithoutAuthenticationError
from servicekit.process.log import configure_logging, redact_url_passwords
from servicekit.process.settings import Settings, SettingsError
from servicekit.rpc.server import AddressInUseError, BackgroundEndedError

S = TypeVar("S", bound=Settings)
T = TypeVar("T")

_EXIT_FAILED = 1
_EXIT_USAGE = 2


def run_service(
    name: str,
    settings: Callable[[], S],
    *,
    log_level: Callable[[S], str],
    serve: Callable[[S, bool], Awaitable[None]],
    migrate: Callable[[S], Awaitable[None]],
    import_lines: Callable[[S, ImportRequest], Awaitable[bool]],
) -> int:
    """Run the service's command line and return its exit code.

    `serve` is given the settings and whether to migrate first; `import_lines` returns whether it has imported. What an
    operator can mend is one line on standard error; anything else is a bug and keeps its traceback.
    """
    arguments = _parser(name).parse_args()
    prefix = name.upper()
    code = 0
    try:
        found = settings()
        configure_logging(service=name, level=log_level(found))
        if arguments.command == "migrate":
            uvloop.run(_as_coroutine(migrate(found)))
        elif arguments.command == "import":
            request = ImportRequest(arguments.files, migrate=arguments.migrate, ask=arguments.ask)
            code = 0 if uvloop.run(_as_coroutine(import_lines(found, request))) else _EXIT_FAILED
        else:
            _collect_less()
            uvloop.run(_as_coroutine(serve(found, arguments.migrate)))
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
    importing.add_argument("--ask", action="store_true", help="write only when told so on standard input")
    return parser


async def _as_coroutine(work: Awaitable[T]) -> T:
    return await work


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - for the person who started it, not for the log
    return code
