"""Runs a service's alembic migrations: one process at a time, never stuck behind a long lock."""

import asyncio
import zlib
from datetime import timedelta

import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.database.engine import autocommit
from servicekit.database.errors import sqlstate

_log = structlog.get_logger()
_LOCK_NOT_AVAILABLE = "55P03"
# A DDL statement that waits for a lock makes every later statement on the table wait behind it: wait briefly, then retry.
_LOCK_TIMEOUT = timedelta(seconds=4)
_ATTEMPTS = 15
_RETRY_SECONDS = 1.0


class Migrations:
    """The migrations of one service: an alembic script folder inside a package, given as `package:folder`.

    Its env.py takes the connection from `config.attributes["connection"]`, in a transaction that is ours.
    """

    def __init__(self, script_location: str) -> None:
        config = Config()
        config.set_main_option("script_location", script_location)
        config.set_main_option("path_separator", "os")
        self._config = config
        self._script = ScriptDirectory.from_config(config)
        # One advisory lock a service: replicas that start together migrate once.
        self._lock_key = zlib.crc32(script_location.encode())

    async def upgrade(self, engine: AsyncEngine, *, revision: str = "head") -> None:
        """Bring the database to `revision` (default: the newest), waiting for another process that is at it.

        Raises the driver's error when a migration fails; what it did is rolled back.
        """
        await self._run(engine, revision, upgrade=True)

    async def downgrade(self, engine: AsyncEngine, *, revision: str) -> None:
        """Bring the database back to `revision` (`base`: before the first)."""
        await self._run(engine, revision, upgrade=False)

    async def is_current(self, engine: AsyncEngine) -> bool:
        """Tell whether the database is at this version's revision or at one this version does not know.

        An unknown one comes from a newer version that already migrated; the two run side by side.
        """
        async with autocommit(engine).connect() as connection:
            found = await connection.scalar(text("SELECT to_regclass('alembic_version')"))
            current = (
                await connection.scalar(text("SELECT version_num FROM alembic_version")) if found else None
            )
        known = {script.revision for script in self._script.walk_revisions()}
        return current is not None and (current == self._script.get_current_head() or current not in known)

    async def _run(self, engine: AsyncEngine, revision: str, *, upgrade: bool) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(self._run_locked, revision, upgrade)
            except DBAPIError as exc:
                if sqlstate(exc) != _LOCK_NOT_AVAILABLE or attempt == _ATTEMPTS:
                    raise
                _log.warning("migration_waits_for_lock", attempt=attempt)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    def _run_locked(self, connection: Connection, revision: str, upgrade: bool) -> None:
        milliseconds = int(_LOCK_TIMEOUT.total_seconds() * 1000)
        with connection.begin():
            # Bound to this transaction: DDL is transactional, so a killed migration leaves nothing behind.
            # A migration may run longer than an ordinary statement is allowed to.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self._lock_key})
            connection.execute(text(f"SET LOCAL lock_timeout = {milliseconds}"))
            self._config.attributes["connection"] = connection
            (command.upgrade if upgrade else command.downgrade)(self._config, revision)
