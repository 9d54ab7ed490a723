"""The statements on resolves: the timeline entries that they bring, and their acknowledgement. Nothing here commits."""

from collections.abc import Mapping, Sequence

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from approval.counters import NOOP_RESOLUTIONS
from approval.delivery import timeline_entries
from approval.delivery.model import ResolutionType, ResolveIntent, TimelineEntry
from approval.delivery.topics import RESOLVE_TOPIC
from approval.model import OperationKind, Recovery
from servicekit.outbox.sql import open_or_dismissed_job_exists
from servicekit.outbox.transaction import Transaction

# The decision that reached the quorum is the last; the run that succeeded is logged, unless no executor was needed.
_ENTRIES = text("""
    SELECT approval_id, incident_id, action, proposed_by, create_time, decide_time, finish_time, supersedes, recovery,
        recovery_time, recovery_message, decision.actor, decision.reason, decision.policy_rule,
        coalesce(run.executor, '') AS executor
    FROM approvals
    LEFT JOIN LATERAL (
        SELECT actor, reason, policy_rule FROM approval_decisions
        WHERE approval_id = approvals.approval_id AND kind = 'APPROVE'
        ORDER BY sequence DESC LIMIT 1
    ) AS decision ON TRUE
    LEFT JOIN LATERAL (
        SELECT executor FROM auto_repair_executions
        WHERE approval_id = approvals.approval_id AND succeeded
        ORDER BY execution_id DESC LIMIT 1
    ) AS run ON TRUE
    WHERE approval_id = ANY (:approval_ids) AND state = 'SUCCEEDED'
""").bindparams(bindparam("approval_ids", type_=ARRAY(Text)))


async def read_entries(
    connection: AsyncConnection, approval_ids: Sequence[str]
) -> Mapping[str, Sequence[TimelineEntry]]:
    """Return the timeline entries about the proposal, the approval, the execution and the recovery of those that SUCCEEDED, by id.

    They are the same that were enqueued when each happened.
    """
    found: dict[str, Sequence[TimelineEntry]] = {}
    for row in await connection.execute(_ENTRIES, {"approval_ids": list(approval_ids)}):
        key = row.approval_id, row.incident_id
        entries = [
            timeline_entries.proposed(
                *key,
                row.create_time,
                action=row.action,
                proposed_by=row.proposed_by,
                supersedes=row.supersedes or "",
            )
        ]
        # Of an imported approval the decision may be unknown.
        if row.actor is not None and row.decide_time is not None:
            entries.append(
                timeline_entries.approved(
                    *key,
                    row.decide_time,
                    approved_by=row.actor,
                    reason=row.reason,
                    policy_rule=row.policy_rule,
                )
            )
        entries.append(
            timeline_entries.executed(*key, row.finish_time, action=row.action, executor=row.executor)
        )
        if row.recovery == Recovery.VERIFIED:
            entries.append(timeline_entries.recovered(*key, row.recovery_time, message=row.recovery_message))
        found[row.approval_id] = entries
    return found


_ACKNOWLEDGE = text("""
    UPDATE approvals SET incident_resolve_time = now(), incident_unknown_time = NULL, incident_unknown_accepted_by = '',
        update_time = now(), version = least(version, 9223372036854775806) + 1
    FROM (
        SELECT approval_id FROM approvals WHERE approval_id = ANY (:approval_ids)
        ORDER BY approval_id
        FOR NO KEY UPDATE
    ) AS acknowledged
    WHERE approvals.approval_id = ANY (:approval_ids) AND approvals.approval_id = acknowledged.approval_id
        AND incident_resolve_time IS NULL
    RETURNING CASE WHEN NOT canary THEN operation_kind END
""").bindparams(bindparam("approval_ids", type_=ARRAY(Text)))


async def acknowledge(transaction: Transaction, approval_ids: Sequence[str]) -> None:
    """Record that the incident service acknowledged these resolves, and count those of NO_ACTION. Idempotent.

    An incident that was unknown is there again.
    """
    kinds = await transaction.connection.scalars(_ACKNOWLEDGE, {"approval_ids": sorted(approval_ids)})
    transaction.count(NOOP_RESOLUTIONS, amount=list(kinds).count(OperationKind.NO_ACTION))


_IS_UNACKNOWLEDGED_NOOP = text("""
    SELECT count(*) = 1 FROM approvals
    WHERE approval_id = :approval_id AND operation_kind = 'NO_ACTION' AND incident_resolve_time IS NULL AND NOT canary
""")


async def count_dismissed_resolve(transaction: Transaction, approval_id: str) -> None:
    """Count a resolve that was dismissed as the acknowledgement that will not come, when it was one of NO_ACTION."""
    parameters = {"approval_id": approval_id}
    if (await transaction.connection.execute(_IS_UNACKNOWLEDGED_NOOP, parameters)).scalar_one():
        transaction.count(NOOP_RESOLUTIONS)


# The approvals are few: a partial index holds those that succeeded and are unacknowledged. A repair of which it is not known
# yet whether it helped, and one that did not, resolve nothing.
_UNACKNOWLEDGED = f"""
    FROM approvals
    WHERE state = 'SUCCEEDED' AND incident_resolve_time IS NULL AND recovery NOT IN ('PENDING', 'NOT_RECOVERED')
        AND NOT {open_or_dismissed_job_exists(topic=":topic", dedup_key="approvals.approval_id")}
"""
_SELECT = f"""
    SELECT approval_id, incident_id, operation_kind, action, incident_opening, execute_time {_UNACKNOWLEDGED}
    ORDER BY finish_time, approval_id LIMIT :limit
"""
_FIND = text(_SELECT)
# A locked approval is being acknowledged, or queued by a concurrent reconciliation. One that was acknowledged since this
# statement began is checked again when it is locked.
_FIND_FOR_UPDATE = text(f"{_SELECT} FOR NO KEY UPDATE OF approvals SKIP LOCKED")
_COUNT = text(f"SELECT count(*) {_UNACKNOWLEDGED}")


async def find_unacknowledged(
    connection: AsyncConnection, *, limit: int, for_update: bool = False
) -> Sequence[ResolveIntent]:
    """Return the intents of at most `limit` approvals that were executed, are not acknowledged and have no open or dismissed delivery.

    `for_update` locks the approvals, and leaves out those that are locked.
    """
    statement = _FIND_FOR_UPDATE if for_update else _FIND
    rows = await connection.execute(statement, {"topic": RESOLVE_TOPIC, "limit": limit})
    return [
        ResolveIntent(
            row.approval_id,
            row.incident_id,
            ResolutionType.NO_ACTION
            if row.operation_kind == OperationKind.NO_ACTION
            else ResolutionType.AUTO_REPAIRED,
            row.action,
            row.incident_opening,
            row.execute_time,
        )
        for row in rows
    ]


async def count_unacknowledged(connection: AsyncConnection) -> int:
    """Return how many approvals were executed, are not acknowledged and have no open or dismissed delivery."""
    count: int = (await connection.execute(_COUNT, {"topic": RESOLVE_TOPIC})).scalar_one()
    return count
