"""The table of a service's changes, with the statements on it that are the same for all. Nothing here commits.

Besides the columns that are named here it has `xact_id`, the writing transaction, and `sequence`. A trigger notifies on the
channel of its name while notifications are requested: commits that notify follow one another, each with a flush of its own, so
that concurrent writers would be several times slower. So who wants to be woken holds a shared advisory lock, and the trigger
tries an exclusive one: tried and given back in one expression, no cancelled statement can leave it behind.
"""

from dataclasses import dataclass
from functools import cache

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger

from servicekit.watch.model import Position, Watermark
from servicekit.watch.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class ChangeTable:
    """Its name, and the columns of a change's key, of the record that it is of, and of its time."""

    name: str
    key: str
    record_id: str
    time: str

    @property
    def channel(self) -> str:
        """Where a trigger notifies when a transaction with changes commits, while notifications are requested."""
        return self.name

    def batch(self, columns: str) -> str:
        """Return the SELECT of the changes of a batch after a position, in order, as many as one reads at a time.

        `columns` has `sequence`. Binds `batch_parameters`.

        The changes of a batch are found by their transactions: those that began between the two snapshots, and those that
        were in progress at the first and have ended. So a poll costs what it finds, independent of the history, and a
        transaction that stays open for hours delays its own changes alone.
        """
        # Two ranges of the index: with OR between them it would be read from end to end.
        rest = "xact_id <> ALL (:in_progress_until) AND sequence > :after"
        return f"""
            SELECT {columns} FROM (
                SELECT {columns} FROM {self.name} WHERE xact_id >= :since AND xact_id < :until AND {rest}
                UNION ALL
                SELECT {columns} FROM {self.name} WHERE xact_id = ANY (:in_progress_since) AND {rest}
            ) AS change ORDER BY sequence LIMIT :limit
        """  # noqa: S608 - a service's constants

    async def now(self, connection: AsyncConnection) -> Watermark:
        """Return the watermark of a statement that begins now."""
        return Snapshot.parse((await connection.execute(_CURRENT_SNAPSHOT)).scalar_one())

    async def poll(self, connection: AsyncConnection, since: Watermark) -> tuple[Watermark, bool]:
        """Return the watermark of a statement that begins now, and whether it has changes that `since` has not."""
        snapshot = _snapshot(since)
        parameters = {"since": snapshot.xmax, "in_progress_since": list(snapshot.in_progress)}
        row = (await connection.execute(_poll(self.name), parameters)).one()
        return Snapshot.parse(row[0]), row[1]

    async def request_notifications(self, connection: AsyncConnection, wanted: bool) -> None:
        """Make transactions that write changes from now on notify at their commit, or stop that.

        A request ends with its connection.
        """
        statement = _REQUEST_NOTIFICATIONS if wanted else _STOP_NOTIFICATIONS
        await connection.execute(statement, {"table": self.name})


def _snapshot(watermark: Watermark) -> Snapshot:
    if not isinstance(watermark, Snapshot):
        raise TypeError("a watermark of another store")
    return watermark


BATCH_ARRAYS = (
    bindparam("in_progress_since", type_=ARRAY(BigInteger)),
    bindparam("in_progress_until", type_=ARRAY(BigInteger)),
)


def batch_parameters(position: Position, limit: int) -> dict[str, object]:
    """Return the parameters of `ChangeTable.batch`."""
    since, until = _snapshot(position.since), _snapshot(position.until)
    return {
        "since": since.xmax,
        "until": until.xmax,
        "in_progress_since": list(since.in_progress),
        "in_progress_until": list(until.in_progress),
        "after": position.sequence,
        "limit": limit,
    }


_CURRENT_SNAPSHOT = text("SELECT CAST(pg_current_snapshot() AS text)")


@cache
def _poll(table: str) -> TextClause:
    return text(f"""
        SELECT CAST(pg_current_snapshot() AS text), EXISTS (SELECT FROM {table} WHERE xact_id >= :since)
            OR EXISTS (SELECT FROM {table} WHERE xact_id = ANY (:in_progress_since))
    """).bindparams(bindparam("in_progress_since", type_=ARRAY(BigInteger)))  # noqa: S608 - a service's constant


_REQUEST_NOTIFICATIONS = text("SELECT pg_advisory_lock_shared(hashtext(:table))")
_STOP_NOTIFICATIONS = text("SELECT pg_advisory_unlock_shared(hashtext(:table))")
