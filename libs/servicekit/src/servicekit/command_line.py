"""The command line of a gRPC service: `serve`, `migrate`, `import`, `audit-export`, `audit-heads`, and its own commands."""

import argparse
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import uvloop
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.audit.export import export, export_heads
from servicekit.database.engine import close_engine, create_engine
from servicekit.database.errors import (
    DatabaseUnavailableError,
    ForeignDatabaseError,
    is_unavailable,
    reason_of,
)
from servicekit.http.errors import CannotListenError
from servicekit.importing.importer import ImportRequest, run_import
from servicekit.importing.lines import ImportFailedError
from servicekit.process.addresses import ExposedWithoutAuthenticationError
from servicekit.process.background import BackgroundEndedError
from servicekit.process.log import configure_logging, protect_stderr
from servicekit.process.service_settings import ServiceSettings
from servicekit.process.settings import SettingsError
from servicekit.rpc.server import AddressInUseError
from servicekit.service import Command, Service

S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")

_EXIT_FAILED = 1
_EXIT_USAGE = 2
_AUDIT_COMMANDS = {"audit-export": export, "audit-heads": export_heads}


def run_service(service: Service[S]) -> int:
    """Run the service's command line and return its exit code.

    An error that an operator can mend is one line on standard error; any other is a bug and keeps its traceback.
    """
    protect_stderr()
    arguments = _parser(service.name, service.commands).parse_args()
    try:
        return _run(service, arguments)
    except Exception as exc:
        message, code = _explain(exc, service.name.upper())
        if not message:
            raise
        print(message, file=sys.stderr)  # noqa: T201 - for the person who started it, not for the log
        return code


def _run(service: Service[S], arguments: argparse.Namespace) -> int:
    if arguments.command in service.commands:
        return service.commands[arguments.command].run(arguments)
    settings = service.settings.from_environment()
    # What the other commands say is for the person who runs them.
    file = settings.rotated_log if arguments.command == "serve" else None
    configure_logging(service=service.name, level=settings.log_level, file=file)
    if arguments.command == "migrate":
        uvloop.run(service.migrate(settings))
    elif arguments.command == "import":
        request = ImportRequest(arguments.files, migrate=arguments.migrate, ask=arguments.ask)
        return 0 if uvloop.run(_import(service, settings, request)) else _EXIT_FAILED
    elif arguments.command in _AUDIT_COMMANDS:
        uvloop.run(_write_audit(service, settings, _AUDIT_COMMANDS[arguments.command]))
    else:
        if arguments.insecure:
            settings.insecure = True
        # What is loaded by now stays, and need not be looked through again.
        gc.freeze()
        uvloop.run(_as_coroutine(service.serve(settings, arguments.migrate)))
    return 0


def _explain(error: Exception, prefix: str) -> tuple[str, int]:
    """Return an error that an operator can mend in one line, and the exit code; no line for any other."""
    message, code = "", _EXIT_FAILED
    match error:
        case SettingsError():
            message, code = str(error), _EXIT_USAGE
        case ExposedWithoutAuthenticationError():
            message = error.advice(prefix)
            code = _EXIT_USAGE
        case ForeignDatabaseError():
            message = f"{prefix}_DATABASE_URL: {error}"
        case DatabaseUnavailableError():
            message = f"{prefix}_DATABASE_URL: the database cannot be reached: {reason_of(error)}"
        case DBAPIError() if is_unavailable(error):
            message = f"{prefix}_DATABASE_URL: the database refuses: {reason_of(error)}"
        case ImportFailedError():
            message = str(error)
        case AddressInUseError():
            message = f"{prefix}_{error.setting}: {error} cannot be listened on: another process has it, or it is no address of this machine"
        case CannotListenError():
            message = f"{prefix}_METRICS_LISTEN: {error}"
        case BackgroundEndedError():
            message = f"stopped because background work ended: {error}"
    return message, code


def _parser(name: str, own: Mapping[str, Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{name}-service", description=f"The {name} service.")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="serve RPCs until SIGTERM or Ctrl-C")
    serving.add_argument("--migrate", action="store_true", help="bring the database up to date first")
    serving.add_argument(
        "--insecure", action="store_true", help="listen beyond loopback without TLS and authentication"
    )
    commands.add_parser("migrate", help="bring the database up to date and exit")
    importing = commands.add_parser("import", help="write rows of the system before, all or none, and exit")
    importing.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help="JSON Lines, see docs/import.md"
    )
    importing.add_argument("--migrate", action="store_true", help="bring the database up to date first")
    importing.add_argument(
        "--ask", action="store_true", help="write only after a confirmation on standard input"
    )
    commands.add_parser("audit-export", help="write the audit trail to standard output, see docs/audit.md")
    commands.add_parser("audit-heads", help="write the heads of its chains")
    for command_name, command in own.items():
        command.add_arguments(commands.add_parser(command_name, help=command.help, description=command.help))
    return parser


async def _import(service: Service[S], settings: S, request: ImportRequest) -> bool:
    if request.migrate:
        await service.migrate(settings)
    return await run_import(
        request,
        service.importer,
        url=settings.session_url,
        application_name=f"{service.name}-import",
        migrations=service.migrations,
    )


async def _write_audit(
    service: Service[S], settings: S, lines: Callable[[AsyncEngine, str], AsyncIterator[bytes]]
) -> None:
    engine = create_engine(
        settings.session_url,
        application_name=f"{service.name}-audit",
        pool_size=1,
        check=service.migrations.require_own,
    )
    try:
        async for page in lines(engine, service.name):
            sys.stdout.buffer.write(page)
        sys.stdout.buffer.flush()
    finally:
        await close_engine(engine)


async def _as_coroutine(work: Awaitable[T]) -> T:
    return await work
