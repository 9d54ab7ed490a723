"""The statements of Watch: the changes of approvals, and the approvals. Nothing here commits."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger, DateTime

from approval.lifecycle import listing, repository
from approval.lifecycle.rows import COLUMNS, with_decisions
from approval.model import Approval, ApprovalFilter, Order, State
from approval.watch.changes import Change, WatchFilter
from servicekit.watch.change_table import BATCH_ARRAYS, ChangeTable, batch_parameters
from servicekit.watch.model import Position, Witness

_CHANGES_TABLE = ChangeTable("approval_changes", key="sequence", record_id="approval_id", time="change_time")
# The approval is read by this statement, after the snapshot: it is never older than its change. An approval that retention
# has removed took its changes with it.
_CHANGES = text(f"""
    SELECT {COLUMNS}, change.sequence, change.state_before, change.state_after, change.change_time
    FROM (
        {_CHANGES_TABLE.batch("approval_id, sequence, state_before, state_after, change_time")}
    ) AS change
    JOIN approvals USING (approval_id)
    ORDER BY change.sequence
""").bindparams(*BATCH_ARRAYS)
# Of the changes that retention has removed, the time of the latest is kept: a database that was set back to before a change
# has removed none as late as that.
_HAS_CHANGE = text("""
    SELECT EXISTS (
        SELECT FROM approval_changes
        WHERE approval_id = :approval_id AND sequence = :sequence AND change_time = :change_time)
    OR EXISTS (SELECT FROM removed_approvals WHERE latest_change_time >= :change_time)
        AND NOT EXISTS (SELECT FROM approvals WHERE approval_id = :approval_id)
""").bindparams(
    bindparam("change_time", type_=DateTime(timezone=True)), bindparam("sequence", type_=BigInteger)
)


class ApprovalChanges:
    """The changes of approvals, as Watch reads them."""

    table = _CHANGES_TABLE

    async def read_changes(
        self, connection: AsyncConnection, position: Position, *, limit: int
    ) -> Sequence[Change]:
        """Return the next changes of the batch that `position` is in, at most `limit`; fewer when the batch ends with them."""
        rows = (await connection.execute(_CHANGES, batch_parameters(position, limit))).all()
        approvals = await with_decisions(connection, rows)
        return [
            Change(
                approval,
                row.sequence,
                None if row.state_before is None else State(row.state_before),
                State(row.state_after),
                row.change_time,
                position.after(row.sequence),
            )
            for row, approval in zip(rows, approvals, strict=True)
        ]

    async def has_witness(self, connection: AsyncConnection, witness: Witness) -> bool:
        """Tell whether a change is there that a watcher has seen, or would be without retention."""
        parameters = {
            "sequence": int(witness.key),
            "approval_id": witness.record_id,
            "change_time": witness.time,
        }
        return bool((await connection.execute(_HAS_CHANGE, parameters)).scalar_one())

    async def list_existing(
        self,
        connection: AsyncConnection,
        criteria: WatchFilter,
        *,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> tuple[Sequence[Approval], tuple[datetime, str] | None]:
        """Return the next approvals that match, oldest first, and the position after them."""
        if criteria.approval_id:
            found = await repository.get_many(connection, [criteria.approval_id])
            return [each for each in found.values() if criteria.matches_approval(each)], None
        wanted = ApprovalFilter(
            states=criteria.states, incident_id=criteria.incident_id, order=Order.CREATE_TIME_ASC
        )
        page = await listing.list_approvals(connection, wanted, after=after, limit=limit)
        if len(page) == limit:
            return page, listing.position(wanted, page[-1])
        return page, await listing.examined_to(connection, wanted, after=after)
