"""Finds executed approvals whose incident service was never told, and queues the resolve again.

The outbox does not lose intents. This heals what is outside its reach: a row removed by hand, rows imported from the
system before, a restore from a backup.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from approval.delivery.repository import RESOLVE_TOPIC, resolve_job
from approval.model import OperationKind, ResolutionType, ResolveIntent
from servicekit.database.engine import is_unavailable
from servicekit.outbox import queue
from servicekit.outbox.outbox import Outbox

_log = structlog.get_logger()
_BATCH = 1000

# The approvals are few: an index holds those that succeeded and were never acknowledged. A delivery that is done and yet
# not acknowledged on the approval says that the two were restored apart: its row makes way for a new one.
_FORGOTTEN = """
    SELECT approval_id, incident_id, operation_kind, action FROM approvals
    WHERE state = 'SUCCEEDED' AND incident_resolve_time IS NULL AND NOT EXISTS (
        SELECT FROM outbox
        WHERE topic = :topic AND dedup_key = approvals.approval_id AND outbox.state IN ('PENDING', 'PARKED'))
    ORDER BY finish_time, approval_id LIMIT :limit
"""
_FIND = text(_FORGOTTEN)
# An approval that is being acknowledged, or queued by another reconciliation, is not forgotten. One that was acknowledged
# since this statement began is seen to be when it is locked.
_FIND_AND_LOCK = text(f"{_FORGOTTEN} FOR NO KEY UPDATE OF approvals SKIP LOCKED")
_MAKE_WAY = text("""
    DELETE FROM outbox WHERE topic = :topic AND dedup_key = :approval_id AND state NOT IN ('PENDING', 'PARKED')
""")


class Reconciler:
    """Queues forgotten resolves."""

    def __init__(self, engine: AsyncEngine, outbox: Outbox) -> None:
        self._engine = engine
        self._outbox = outbox

    async def reconcile(self, *, validate_only: bool = False) -> tuple[int, Sequence[str]]:
        """Queue what was forgotten; returns how many approvals that were, and the ids of the first thousand.

        With `validate_only` nothing is queued. Several at a time do no harm: an approval has one delivery.
        """
        count = 0
        first: list[str] = []
        while True:
            async with self._engine.begin() as connection:
                forgotten = await self._find(connection, _FIND if validate_only else _FIND_AND_LOCK)
                queued: Sequence[str] = [intent.approval_id for intent in forgotten]
                if not validate_only:
                    # Another reconciliation may just have queued some of them.
                    queued = await self._queue(connection, forgotten)
            count += len(queued)
            first.extend(queued[: _BATCH - len(first)])
            if queued and not validate_only:
                _log.warning("reconciled", approvals=len(queued))
                self._outbox.wake()
            # When only looking, the next look would find the same ones.
            if len(forgotten) < _BATCH or validate_only:
                return count, first

    async def keep_reconciling(self, *, every: timedelta) -> None:
        """Reconcile again and again until cancelled."""
        while True:
            await asyncio.sleep(every.total_seconds())
            try:
                await self.reconcile()
            except Exception as exc:
                _log.warning("reconcile_failed", error=type(exc).__name__, database_away=is_unavailable(exc))

    @staticmethod
    async def _find(connection: AsyncConnection, statement: TextClause) -> Sequence[ResolveIntent]:
        rows = await connection.execute(statement, {"topic": RESOLVE_TOPIC, "limit": _BATCH})
        return [
            ResolveIntent(
                row.approval_id,
                row.incident_id,
                ResolutionType.NO_ACTION
                if row.operation_kind == OperationKind.NO_ACTION
                else ResolutionType.AUTO_REPAIRED,
                row.action,
            )
            for row in rows
        ]

    @staticmethod
    async def _queue(connection: AsyncConnection, intents: Sequence[ResolveIntent]) -> Sequence[str]:
        for intent in intents:
            await connection.execute(_MAKE_WAY, {"topic": RESOLVE_TOPIC, "approval_id": intent.approval_id})
        if not intents:
            return []
        return [
            job.dedup_key for job in await queue.enqueue(connection, [resolve_job(each) for each in intents])
        ]
