"""Runs a service's alembic migrations: one process at a time, never stuck behind a long lock."""

import asyncio
import zlib
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

import structlog
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.database.connection import Connection
from servicekit.database.engine import autocommit
from servicekit.database.errors import ForeignDatabaseError, sqlstate
from servicekit.database.revisions import HEAD, read_revisions

_log = structlog.get_logger()
# A lock that was waited for too long, and a deadlock: a migration locks several tables, in an order that is not that of every
# statement of the version that runs meanwhile.
_BLOCKED = {"lock_not_available": "55P03", "deadlock_detected": "40P01"}
# A DDL statement that waits for a lock makes every later statement on the table wait behind it: wait briefly, then retry.
_LOCK_TIMEOUT = timedelta(seconds=4)
_ATTEMPTS = 15
_RETRY_SECONDS = 1.0
_REVISIONS = "SELECT version_num FROM alembic_version"
# Services that are given one database by mistake and start together: the second finds the first one's tables.
_ANY_SERVICE_LOCK_KEY = zlib.crc32(b"servicekit.database.migrations")


class SchemaState(Enum):
    """What the schema of a database is to one version of one service."""

    EMPTY = auto()
    BEHIND = auto()
    CURRENT = auto()
    # Migrated by a newer version of the service.
    NEWER = auto()
    # Migrated by another service.
    FOREIGN = auto()


@dataclass(frozen=True, slots=True)
class Schema:
    """What is found in a database: alembic's revisions, none when it was never migrated, and whether the service's table is."""

    revisions: frozenset[str]
    is_own: bool


class Migrations:
    """The migrations of one service: an alembic script folder inside a package, given as `package:folder`.

    Its env.py takes the connection from `config.attributes["connection"]`, in a transaction that is ours. The first of its
    files has the name of the table by which the service's database is recognized.
    """

    def __init__(self, script_location: str) -> None:
        self._script_location = script_location
        self._revisions = read_revisions(script_location)
        self._own_table = self._revisions.own_table
        self._look = (
            "SELECT to_regclass('alembic_version') IS NOT NULL AS is_versioned,"
            f" to_regclass('{self._own_table}') IS NOT NULL AS is_own"
        )
        # One advisory lock a service: replicas that start together migrate once.
        self._lock_key = zlib.crc32(script_location.encode())

    @property
    def head(self) -> str:
        """The newest revision."""
        return self._revisions.head

    async def upgrade(self, engine: AsyncEngine, *, revision: str = HEAD) -> None:
        """Bring the database to `revision` (default: the newest), waiting for another process that is at it.

        A database that a newer version migrated stays as it is. Raises ForeignDatabaseError, and the driver's error when a
        migration fails; what it did is rolled back.
        """
        await self._run(engine, revision, upgrade=True)

    async def downgrade(self, engine: AsyncEngine, *, revision: str) -> None:
        """Bring the database back to `revision` (`base`: before the first)."""
        await self._run(engine, revision, upgrade=False)

    async def is_current(self, engine: AsyncEngine) -> bool:
        """Return whether the database is at this version's revision, or at one of a newer version: the two run side by side."""
        async with autocommit(engine).connect() as connection:
            schema = await connection.run_sync(self._read)
        return self.judge(schema) in (SchemaState.CURRENT, SchemaState.NEWER)

    async def require_own(self, connection: Connection) -> None:
        """Raise ForeignDatabaseError when a driver's connection is to the database of another service.

        For every new connection: it may be to another server than the one before.
        """
        is_versioned, is_own = await connection.fetchrow(self._look) or (False, False)
        if is_versioned and not is_own:
            revisions = frozenset(row[0] for row in await connection.fetch(_REVISIONS))
            self._require_own(Schema(revisions, is_own=False))

    def judge(self, schema: Schema) -> SchemaState:
        """Return what a schema is to this version of this service."""
        if not schema.revisions:
            return SchemaState.EMPTY
        if not schema.is_own:
            # All services number their revisions alike: a known one proves nothing.
            return SchemaState.FOREIGN
        if schema.revisions == {self._revisions.head}:
            return SchemaState.CURRENT
        return SchemaState.BEHIND if schema.revisions <= self._revisions.all else SchemaState.NEWER

    def _require_own(self, schema: Schema) -> SchemaState:
        state = self.judge(schema)
        if state is SchemaState.FOREIGN:
            raise ForeignDatabaseError(
                f"it is the database of another service: it was migrated and has no table {self._own_table}"
            )
        return state

    def _read(self, connection: SyncConnection) -> Schema:
        is_versioned, is_own = connection.execute(text(self._look)).one()
        revisions = connection.scalars(text(_REVISIONS)).all() if is_versioned else ()
        return Schema(frozenset(revisions), is_own=is_own)

    async def _run(self, engine: AsyncEngine, revision: str, *, upgrade: bool) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(self._run_locked, revision, upgrade)
            except DBAPIError as exc:
                if sqlstate(exc) not in _BLOCKED.values() or attempt == _ATTEMPTS:
                    raise
                _log.warning("migration_waits_for_lock", attempt=attempt)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    def _run_locked(self, connection: SyncConnection, revision: str, upgrade: bool) -> None:
        milliseconds = int(_LOCK_TIMEOUT.total_seconds() * 1000)
        with connection.begin():
            # Bound to this transaction: DDL is transactional, so a killed migration leaves nothing behind.
            # A migration may run longer than an ordinary statement is allowed to.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            for key in (_ANY_SERVICE_LOCK_KEY, self._lock_key):
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            connection.execute(text(f"SET LOCAL lock_timeout = {milliseconds}"))
            schema = self._read(connection)
            state = self._require_own(schema)
            if state is SchemaState.CURRENT and upgrade and revision == HEAD:
                return
            if state is SchemaState.NEWER:
                _log.warning(
                    "migration_not_needed",
                    reason="the database was migrated by a newer version",
                    revisions=sorted(schema.revisions),
                )
                return
            # Alembic takes a tenth of a start to import: only a process that changes a schema pays for it.
            from servicekit.database import alembic_commands  # noqa: PLC0415 - as above

            run = alembic_commands.upgrade if upgrade else alembic_commands.downgrade
            run(connection, self._script_location, revision)
