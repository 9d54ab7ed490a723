"""The command line of a gRPC service: `serve`, `migrate`, `import`, `audit-export`, `audit-heads`, and its own commands."""

import argparse
import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, TypeVar

import uvloop
from sqlalchemy import MetaData, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.audit.export import export, export_heads
from servicekit.database.engine import close_engine, create_engine
from servicekit.database.errors import (
    DatabaseUnavailableError,
    ForeignDatabaseError,
    is_refused,
    is_unavailable,
    reason_of,
)
from servicekit.database.failure_log import FailureLog
from servicekit.database.migrations import Migrations
from servicekit.database.privileges import grant
from servicekit.http.errors import CannotListenError
from servicekit.importing.importer import ImportRequest, LineImporter, run_import
from servicekit.importing.lines import ImportFailedError
from servicekit.process.addresses import ExposedWithoutAuthenticationError
from servicekit.process.background import BackgroundEndedError
from servicekit.process.build import Build
from servicekit.process.log import configure_logging, protect_stderr
from servicekit.process.service_settings import ServiceSettings
from servicekit.process.settings import SettingsError
from servicekit.rpc.server import AddressInUseError

S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")

_EXIT_FAILED = 1
_EXIT_USAGE = 2
_RETRY_SECONDS = 1.0
# One that listens for jobs, and one for Watch.
_SESSIONS = 2
_AUDIT_COMMANDS = {"audit-export": export, "audit-heads": export_heads}


@dataclass(frozen=True, slots=True)
class Command:
    """A further command of one service, which reads the settings that it needs by itself."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    # Returns the exit code.
    run: Callable[[argparse.Namespace], int]


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
    # Its tables, with what the run-time role may do to each.
    tables: MetaData
    # Its own commands, by name.
    commands: Mapping[str, Command] = field(default_factory=dict)

    @property
    def migrations(self) -> Migrations:
        """The migrations of its database."""
        return Migrations(f"{self.name}:migrations")

    @property
    def build(self) -> Build:
        """Its version, and the newest of its migrations."""
        return Build(version(f"awoooi-{self.name}"), self.migrations.head)

    async def migrate(self, settings: S) -> None:
        """Bring its database up to date, on a connection of its own: a migration may take longer than a statement.

        Where another role owns the tables, the run-time role is granted what it needs of them.
        """
        migrations = self.migrations
        owner_url = settings.owner_database_url.get_secret_value()
        engine = self._migrating_engine(owner_url or settings.session_url)
        try:
            await migrations.upgrade(engine)
            if owner_url or settings.pools_transactions:
                role = await self._run_time_role(settings)
                async with engine.begin() as connection:
                    await grant(connection, self.tables, role)
        finally:
            await close_engine(engine)

    async def _run_time_role(self, settings: S) -> str:
        engine = self._migrating_engine(
            settings.database_url.get_secret_value(), pooled=settings.pools_transactions
        )
        try:
            async with engine.connect() as connection:
                role: str = (await connection.execute(text("SELECT current_user"))).scalar_one()
                return role
        finally:
            await close_engine(engine)

    def _migrating_engine(self, url: str, *, pooled: bool = False) -> AsyncEngine:
        return create_engine(
            url,
            application_name=f"{self.name}-migrate",
            pool_size=1,
            statement_timeout_seconds=0.0,
            pooled=pooled,
            check=self.migrations.require_own,
        )

    async def open_database(self, settings: S, *, migrate: bool, stop: asyncio.Event) -> AsyncEngine:
        """Return the engine to serve with; with `migrate`, when the database is up to date or `stop` is set.

        Raises ForeignDatabaseError; with `migrate`, also what the server refuses to a migration. A database that is only
        unavailable is waited for, as by a service that serves: during a fail-over it is a start like any other.
        """
        engine = create_engine(
            settings.database_url.get_secret_value(),
            application_name=f"{self.name}-service",
            pool_size=settings.database_pool_size,
            pooled=settings.pools_transactions,
            check=self.migrations.require_own,
        )
        if migrate:
            await _unless_stopped(self._migrate_when_available(settings), stop)
            return engine
        try:
            async with engine.connect():
                pass
        except Exception as exc:
            if isinstance(exc, ForeignDatabaseError) or not is_unavailable(exc):
                raise
        return engine

    def open_reads(self, settings: S) -> AsyncEngine:
        """Return an engine of its own for what grows with the stored data: Lists, searches, stats, background scans.

        However many of them there are, the other engine's connections stay free. No connection is opened here.
        """
        return create_engine(
            settings.database_url.get_secret_value(),
            application_name=f"{self.name}-reads",
            pool_size=settings.database_read_pool_size,
            statement_timeout_seconds=settings.database_read_timeout.total_seconds(),
            pooled=settings.pools_transactions,
            check=self.migrations.require_own,
        )

    def open_sessions(self, settings: S, engine: AsyncEngine) -> AsyncEngine:
        """Return the engine for what needs a session of its own: `engine`, unless that is a pooler's. No connection is opened."""
        if not settings.pools_transactions:
            return engine
        return create_engine(
            settings.session_url,
            application_name=f"{self.name}-sessions",
            pool_size=_SESSIONS,
            check=self.migrations.require_own,
        )

    async def _migrate_when_available(self, settings: S) -> None:
        failures = FailureLog("migration_waits_for_database", logs_connecting=True)
        while True:
            try:
                await self.migrate(settings)
            except Exception as exc:
                if is_refused(exc) or not is_unavailable(exc):
                    raise
                failures.failed(exc)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return


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


async def _unless_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Wait for `work`; when `stop` is set first, cancel it."""
    task, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not task.done():
            task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _as_coroutine(work: Awaitable[T]) -> T:
    return await work
