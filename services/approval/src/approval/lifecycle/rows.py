"""From rows to approvals, each with its decisions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from approval.model import Approval, Decision, DecisionKind, Operation, OperationKind, Recovery, Risk, State

COLUMNS = """
    approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, replicas, hook, parse_error,
    action_hash, risk, rationale, confidence, required_approvals, auto_execute, state, proposed_by, incident_verified,
    incident_opening, create_time, update_time, expire_time, decide_time, execute_time, finish_time, outcome_message,
    cancelled_by, incident_resolve_time, incident_unknown_time, incident_unknown_accepted_by, supersedes, superseded_by,
    superseded_proposers, recovery, recovery_time, recovery_deadline, recovery_message, canary, version
"""


def _to_approval(row: Any, decisions: Sequence[Decision], now: datetime) -> Approval:
    """Return the approval in a row of COLUMNS, as of `now`."""
    operation = None
    if row.operation_kind is not None:
        operation = Operation(
            OperationKind(row.operation_kind),
            row.resource_kind,
            row.name,
            row.namespace,
            row.replicas,
            row.hook,
        )
    return Approval(
        approval_id=row.approval_id,
        incident_id=row.incident_id,
        action=row.action,
        operation=operation,
        parse_error=row.parse_error,
        action_hash=row.action_hash,
        risk=Risk(row.risk),
        rationale=row.rationale,
        confidence=row.confidence,
        required_approvals=row.required_approvals,
        auto_execute=row.auto_execute,
        state=State(row.state),
        proposed_by=row.proposed_by,
        incident_verified=row.incident_verified,
        incident_opening=row.incident_opening,
        create_time=row.create_time,
        update_time=row.update_time,
        expire_time=row.expire_time,
        decide_time=row.decide_time,
        execute_time=row.execute_time,
        finish_time=row.finish_time,
        outcome_message=row.outcome_message,
        cancelled_by=row.cancelled_by,
        incident_resolve_time=row.incident_resolve_time,
        incident_unknown_time=row.incident_unknown_time,
        incident_unknown_accepted_by=row.incident_unknown_accepted_by,
        supersedes=row.supersedes or "",
        superseded_by=row.superseded_by or "",
        superseded_proposers=row.superseded_proposers,
        recovery=Recovery(row.recovery) if row.recovery else None,
        recovery_time=row.recovery_time,
        recovery_deadline=row.recovery_deadline,
        recovery_message=row.recovery_message,
        canary=row.canary,
        version=row.version,
        decisions=decisions,
        is_past_expiry=row.expire_time <= now,
    )


# With the time, in every row and also without decisions: an approval that was waited for, because it was locked, may have
# expired meanwhile. now() is when the transaction began.
_DECISIONS_AND_TIME = text("""
    SELECT clock.now, approval_id, actor, kind, reason, decide_time, policy_rule
    FROM (SELECT clock_timestamp() AS now) AS clock
    LEFT JOIN approval_decisions ON approval_id = ANY (:approval_ids)
    ORDER BY sequence
""").bindparams(bindparam("approval_ids", type_=ARRAY(Text)))


async def with_decisions(connection: AsyncConnection, rows: Sequence[Any]) -> Sequence[Approval]:
    """Return the approvals in rows of COLUMNS, each with its decisions, in the rows' order."""
    if not rows:
        return []
    decisions: dict[str, list[Decision]] = {row.approval_id: [] for row in rows}
    found = (await connection.execute(_DECISIONS_AND_TIME, {"approval_ids": list(decisions)})).all()
    for _, approval_id, actor, kind, *rest in found:
        if approval_id is not None:
            decisions[approval_id].append(Decision(actor, DecisionKind(kind), *rest))
    now: datetime = found[0].now
    return [_to_approval(row, decisions[row.approval_id], now) for row in rows]
