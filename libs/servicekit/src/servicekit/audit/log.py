"""Writes the records of calls that changed nothing, apart from the calls themselves."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.audit import repository
from servicekit.audit.chains import Chains
from servicekit.audit.model import Entry
from servicekit.audit.unchanged import UnchangedCalls
from servicekit.database.engine import autocommit
from servicekit.process.periodic import run_periodically

_log = structlog.get_logger()

_EVERY = timedelta(seconds=1)
# Every so many rounds the counts are written too.
_COUNTS_EVERY_ROUNDS = 60
_BATCH = 500
_CLOSE_SECONDS = 5.0


class AuditLog:
    """Writes what one process has of them: once a second, counts once a minute. No call waits for it.

    A process that is killed loses what it has not written.
    """

    def __init__(self, unchanged: UnchangedCalls, engine: AsyncEngine, chains: Chains) -> None:
        self._unchanged = unchanged
        self._engine = autocommit(engine)
        self._chains = chains
        self._rounds = 0

    async def run(self) -> None:
        """Write until cancelled. What cannot be written is kept, and tried again."""
        await run_periodically("audit", self._write_round, every=_EVERY)

    async def close(self) -> None:
        """Write everything, when no more calls are served. A database that is away loses it."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._write(self._unchanged.take_whole())
                await self._write(self._unchanged.take_counted())
        except Exception as exc:
            _log.warning("audit_lost", records=len(self._unchanged), error=type(exc).__name__)

    async def _write_round(self) -> bool:
        self._rounds += 1
        await self._write(self._unchanged.take_whole())
        if self._rounds % _COUNTS_EVERY_ROUNDS == 0:
            await self._write(self._unchanged.take_counted())
        return False

    async def _write(self, entries: Sequence[Entry]) -> None:
        written = 0
        try:
            while written < len(entries):
                batch = entries[written : written + _BATCH]
                with self._chains.take() as chain:
                    async with self._engine.connect() as connection:
                        await repository.append(connection, chain, batch)
                written += len(batch)
        finally:
            # One whose commit was not acknowledged may be written twice; none is lost.
            self._unchanged.requeue(entries[written:])
