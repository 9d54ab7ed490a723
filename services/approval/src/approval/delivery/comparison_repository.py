"""The statements that compare approvals with what the incident service has. Nothing here commits."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger, DateTime, Integer, Text

from approval.counters import NOOP_RESOLUTIONS
from approval.delivery.model import COMPARED_STATES, ComparedApproval, Position
from approval.model import OperationKind
from servicekit.outbox.transaction import Transaction

_BEGINNING: Position = (datetime.max.replace(tzinfo=UTC), "")
# Rows that are not compared are read as well: a batch costs the same however many of those there are.
# What an older system acknowledged is on its word: that an incident was reopened there since is unknown here.
_READ = text("""
    SELECT approval_id, incident_id, state, incident_opening, execute_time, incident_unknown_time, version, update_time,
        state = 'SUCCEEDED' AND incident_resolve_time IS NOT NULL AND NOT EXISTS (
            SELECT FROM imported_rows
            WHERE row_id = approvals.approval_id AND import_time >= approvals.incident_resolve_time) AS is_acknowledged
    FROM approvals WHERE (update_time, approval_id) < (:time, :approval_id)
    ORDER BY update_time DESC, approval_id DESC LIMIT :limit
""").bindparams(bindparam("time", type_=DateTime(timezone=True)))


async def read_batch(
    connection: AsyncConnection, after: Position | None, *, limit: int
) -> tuple[Sequence[ComparedApproval], Position | None]:
    """Return approvals to compare, of the next `limit` in the order of their latest change, latest first.

    With them the position after which the next batch begins, None when this is the last.
    """
    time, approval_id = after or _BEGINNING
    rows = (await connection.execute(_READ, {"time": time, "approval_id": approval_id, "limit": limit})).all()
    approvals = [
        ComparedApproval(
            row.approval_id,
            row.incident_id,
            row.incident_opening,
            row.execute_time,
            is_acknowledged=row.is_acknowledged,
            is_unknown=row.incident_unknown_time is not None,
            version=row.version,
        )
        for row in rows
        if row.state in COMPARED_STATES
    ]
    is_last = len(rows) < limit
    return approvals, None if is_last else (rows[-1].update_time, rows[-1].approval_id)


def _change(assignments: str) -> str:
    """Return the statement that changes approvals that are still as they were compared, and returns them as they were."""
    return f"""
    UPDATE approvals SET {assignments}, update_time = now(), version = least(approvals.version, 9223372036854775806) + 1
    FROM (
        SELECT approvals.approval_id, operation_kind, incident_resolve_time, incident_unknown_time,
            incident_unknown_accepted_by, canary
        FROM unnest(:approval_ids, :versions) AS compared (approval_id, version)
        JOIN approvals ON approvals.approval_id = compared.approval_id AND approvals.version = compared.version
        WHERE approvals.approval_id = ANY (:approval_ids)
        ORDER BY approvals.approval_id
        FOR NO KEY UPDATE OF approvals
    ) AS before
    WHERE approvals.approval_id = ANY (:approval_ids) AND approvals.approval_id = before.approval_id
    RETURNING before.approval_id, before.operation_kind, before.canary,
        before.incident_resolve_time IS NOT NULL AS was_acknowledged,
        before.incident_unknown_time IS NOT NULL AND before.incident_unknown_accepted_by = '' AS was_unknown
    """


_PARAMETERS = (
    bindparam("approval_ids", type_=ARRAY(Text)),
    bindparam("versions", type_=ARRAY(BigInteger)),
)
_WITHDRAW = text(
    _change("incident_resolve_time = NULL, incident_unknown_time = NULL, incident_unknown_accepted_by = ''")
).bindparams(*_PARAMETERS)
_MARK_UNKNOWN = text(_change("incident_unknown_time = now()")).bindparams(*_PARAMETERS)
_MARK_KNOWN = text(_change("incident_unknown_time = NULL, incident_unknown_accepted_by = ''")).bindparams(
    *_PARAMETERS
)


async def withdraw_acknowledgements(
    transaction: Transaction, approvals: Sequence[ComparedApproval]
) -> Sequence[str]:
    """Take back that these resolves were acknowledged; returns the ids of the approvals that were still as compared.

    The counter of resolutions is the number of NO_ACTIONs that are acknowledged and whose incident is not unknown.
    """
    rows = (await transaction.connection.execute(_WITHDRAW, _of(approvals))).all()
    counted = [row for row in rows if _is_noop(row) and not row.was_unknown]
    transaction.count(NOOP_RESOLUTIONS, amount=-len(counted))
    return [row.approval_id for row in rows]


async def mark_unknown(transaction: Transaction, approvals: Sequence[ComparedApproval]) -> Sequence[str]:
    """Mark approvals whose incident is unknown; returns the ids of those that were still as compared."""
    rows = (await transaction.connection.execute(_MARK_UNKNOWN, _of(approvals))).all()
    transaction.count(NOOP_RESOLUTIONS, amount=-sum(map(_is_noop, rows)))
    return [row.approval_id for row in rows]


async def mark_known(transaction: Transaction, approvals: Sequence[ComparedApproval]) -> Sequence[str]:
    """Unmark approvals whose incident is there again; returns the ids of those that were still as compared."""
    rows = (await transaction.connection.execute(_MARK_KNOWN, _of(approvals))).all()
    transaction.count(NOOP_RESOLUTIONS, amount=sum(_is_noop(row) and row.was_unknown for row in rows))
    return [row.approval_id for row in rows]


_UNKNOWN = f"""
    incident_unknown_time IS NOT NULL AND incident_unknown_accepted_by = ''
        AND state IN ({", ".join(f"'{state}'" for state in COMPARED_STATES)})
"""
_LIST_UNKNOWN = text(
    f"SELECT approval_id FROM approvals WHERE {_UNKNOWN} ORDER BY create_time, approval_id LIMIT :limit"
)
# In the order of its index, so that it is read from there.
_COUNT_UNKNOWN = text(f"""
    SELECT count(*) FROM (
        SELECT FROM approvals WHERE {_UNKNOWN} ORDER BY create_time, approval_id LIMIT :max_counted) AS counted
""").bindparams(bindparam("max_counted", type_=Integer))
_ACCEPT_UNKNOWN = text(f"""
    WITH accepted AS (
        SELECT approval_id FROM approvals WHERE {_UNKNOWN} ORDER BY create_time, approval_id LIMIT :limit
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE approvals SET incident_unknown_accepted_by = :actor, update_time = now(), version = least(version, 9223372036854775806) + 1
    FROM accepted
    WHERE approvals.approval_id = ANY (ARRAY (SELECT approval_id FROM accepted)) AND approvals.approval_id = accepted.approval_id
    RETURNING approvals.approval_id, operation_kind, canary, incident_resolve_time IS NOT NULL AS was_acknowledged
""")


async def list_unknown(connection: AsyncConnection, *, limit: int) -> Sequence[str]:
    """Return the ids of at most `limit` approvals whose incident is unknown, oldest first, without accepted ones."""
    return (await connection.scalars(_LIST_UNKNOWN, {"limit": limit})).all()


async def count_unknown(connection: AsyncConnection, *, max_counted: int | None = None) -> int:
    """Return how many approvals have an incident that is unknown, without accepted ones; `max_counted` at most."""
    count: int = (await connection.execute(_COUNT_UNKNOWN, {"max_counted": max_counted})).scalar_one()
    return count


async def accept_unknown(transaction: Transaction, *, actor: str, limit: int) -> Sequence[str]:
    """Accept at most `limit` of them as lost: they count no longer. Returns their ids."""
    rows = (await transaction.connection.execute(_ACCEPT_UNKNOWN, {"actor": actor, "limit": limit})).all()
    transaction.count(NOOP_RESOLUTIONS, amount=sum(map(_is_noop, rows)))
    return [row.approval_id for row in rows]


def _of(approvals: Sequence[ComparedApproval]) -> dict[str, list[str] | list[int]]:
    return {
        "approval_ids": [approval.approval_id for approval in approvals],
        "versions": [approval.version for approval in approvals],
    }


def _is_noop(row: Row[Any]) -> bool:
    """Tell whether a row is an acknowledged NO_ACTION that is counted."""
    return bool(row.operation_kind == OperationKind.NO_ACTION and row.was_acknowledged and not row.canary)
