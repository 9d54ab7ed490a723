"""Retention: removes approvals that ended long ago, with their decisions and executions, in small batches.

What still counts stays, however old it is: an approval that may yet change, one whose resolve the incident service has not
acknowledged, one with a job that waits or is dead-lettered, and one whose incident is unknown and not accepted as lost.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger, DateTime, Float, Text

from approval.counters import APPROVALS
from approval.model import OWN_ACTOR
from servicekit.audit.model import background
from servicekit.outbox.open_jobs import MAX_COUNTED_JOBS, list_open_keys
from servicekit.outbox.transaction import Transaction
from servicekit.retention import BATCH, Removal

_log = structlog.get_logger()
# Approvals that a batch reads, those that stay as well: it costs the same however many of those there are.
_MAX_READ = 1000
_BEGINNING = (datetime.min.replace(tzinfo=UTC), "")

_READ = text("""
    SELECT approval_id, update_time, version,
        (state IN ('REJECTED', 'EXPIRED', 'CANCELLED', 'FAILED')
            OR state = 'SUCCEEDED' AND (incident_resolve_time IS NOT NULL OR recovery = 'NOT_RECOVERED')
                AND (incident_unknown_time IS NULL OR incident_unknown_accepted_by <> ''))
        AND (finish_time IS NULL
            OR greatest(finish_time, recovery_time) < now() - make_interval(secs => :finished_seconds)) AS is_removable
    FROM approvals
    WHERE (update_time, approval_id) > (:time, :approval_id) AND update_time < now() - make_interval(secs => :keep_seconds)
    ORDER BY update_time, approval_id LIMIT :limit
""").bindparams(
    bindparam("time", type_=DateTime(timezone=True)),
    bindparam("keep_seconds", type_=Float),
    bindparam("finished_seconds", type_=Float),
)
# The function is the owner's (see its migration). What has changed since it was read stays.
_REMOVE = text("""
    SELECT state, array_agg(approval_id ORDER BY approval_id) FROM remove_approvals(:approval_ids, :versions) GROUP BY state
""").bindparams(
    bindparam("approval_ids", type_=ARRAY(Text)),
    bindparam("versions", type_=ARRAY(BigInteger)),
)


@dataclass(frozen=True, slots=True)
class _Old:
    """An approval that has not changed for long."""

    approval_id: str
    update_time: datetime
    version: int
    is_removable: bool


class Retention:
    """Removes approvals in the order of their last change, a batch at a time."""

    def __init__(
        self,
        *,
        keep: timedelta,
        keep_finished: timedelta,
        limit: int = BATCH,
        max_read: int = _MAX_READ,
        max_open: int = MAX_COUNTED_JOBS,
    ) -> None:
        """Remove what has not changed for `keep`, nothing whose execution ended within `keep_finished`.

        A batch removes at most `limit` approvals and reads at most `max_read`; with more than `max_open` jobs open in one state
        it removes none.
        """
        self._keep = keep
        self._keep_finished = keep_finished
        self._limit = limit
        self._max_read = max_read
        self._max_open = max_open
        # Where the next batch begins; what stays is read once in a period.
        self._position = _BEGINNING

    async def remove_next(self, transaction: Transaction) -> Removal:
        """Remove the next batch. At the end of what is old enough, the next one begins anew."""
        waiting = await self._with_open_jobs(transaction.connection)
        if waiting is None:
            self._position = _BEGINNING
            return Removal(0, has_more=False)
        read = await self._read(transaction.connection)
        chosen: list[_Old] = []
        for number, old in enumerate(read, start=1):
            if old.is_removable and old.approval_id not in waiting:
                chosen.append(old)
            if len(chosen) == self._limit:
                read = read[:number]
                break
        has_more = len(chosen) == self._limit or len(read) == self._max_read
        self._position = (read[-1].update_time, read[-1].approval_id) if has_more else _BEGINNING
        return Removal(await _remove(transaction, chosen), has_more)

    async def _with_open_jobs(self, connection: AsyncConnection) -> Collection[str] | None:
        """Return the approvals that have a job that waits or is dead-lettered; None when there are too many to know all.

        The key of every job begins with the id of its approval, of jobs of other versions as well.
        """
        keys = await list_open_keys(connection, limit=self._max_open + 1)
        if any(len(of_state) > self._max_open for of_state in keys.values()):
            _log.warning("retention_waits_for_deliveries", open_deliveries=sum(map(len, keys.values())))
            return None
        return {key.partition("/")[0] for of_state in keys.values() for key in of_state}

    async def _read(self, connection: AsyncConnection) -> Sequence[_Old]:
        time, approval_id = self._position
        rows = await connection.execute(
            _READ,
            {
                "time": time,
                "approval_id": approval_id,
                "keep_seconds": self._keep.total_seconds(),
                "finished_seconds": self._keep_finished.total_seconds(),
                "limit": self._max_read,
            },
        )
        return [_Old(*row) for row in rows]


async def _remove(transaction: Transaction, chosen: Sequence[_Old]) -> int:
    if not chosen:
        return 0
    parameters = {
        "approval_ids": [old.approval_id for old in chosen],
        "versions": [old.version for old in chosen],
    }
    removed: list[str] = []
    for state, approval_ids in await transaction.connection.execute(_REMOVE, parameters):
        transaction.count(APPROVALS, state, -len(approval_ids))
        removed += approval_ids
    if removed:
        transaction.record(background("retention", OWN_ACTOR), *removed)
    return len(removed)
