"""A gRPC service: its settings, its databases, and what its command line runs."""

import argparse
import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Generic, TypeVar

from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.database.engine import close_engine, create_engine
from servicekit.database.errors import (
    ForeignDatabaseError,
    is_refused,
    is_unavailable,
)
from servicekit.database.failure_log import FailureLog
from servicekit.database.migrations import Migrations
from servicekit.database.privileges import grant
from servicekit.importing.importer import LineImporter
from servicekit.process.build import Build
from servicekit.process.service_settings import ServiceSettings

S = TypeVar("S", bound=ServiceSettings)

_RETRY_SECONDS = 1.0
# One that listens for jobs, and one for Watch.
_SESSIONS = 2


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
