"""Reads past proposals. Nothing here commits."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import DateTime

from approval.model import Operation, OperationKind, Risk, Severity, State
from approval.replay.model import PastProposal, decided

_BATCH = 5_000
_READ = text("""
    SELECT approval_id, operation_kind, resource_kind, name, namespace, replicas, hook, risk, confidence,
        required_approvals, incident_verified, incident_severity, create_time,
        CASE WHEN state IN ('PENDING', 'APPROVED') AND expire_time <= now() THEN 'EXPIRED' ELSE state END AS state,
        superseded_by IS NOT NULL AS superseded, coalesce(decision.rule, '') AS rule,
        coalesce(decision.approvals, 0) AS approvals, coalesce(decision.rejected, FALSE) AS rejected
    FROM approvals
    LEFT JOIN LATERAL (
        SELECT max(policy_rule) AS rule, count(*) FILTER (WHERE kind = 'APPROVE') AS approvals,
            bool_or(kind = 'REJECT') AS rejected
        FROM approval_decisions WHERE approval_decisions.approval_id = approvals.approval_id
    ) AS decision ON TRUE
    WHERE create_time >= :since AND NOT canary
    ORDER BY create_time, approval_id
""").bindparams(bindparam("since", type_=DateTime(timezone=True)))


async def read_proposals(
    connection: AsyncConnection, *, since: datetime
) -> AsyncIterator[Sequence[PastProposal]]:
    """Yield the proposals made since then in batches, oldest first, as of one moment."""
    statement = _READ.execution_options(yield_per=_BATCH)
    async with connection.stream(statement, {"since": since}) as found:
        async for rows in found.partitions():
            yield [_to_proposal(row) for row in rows]


def _to_proposal(row: Any) -> PastProposal:
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
    return PastProposal(
        row.approval_id,
        operation,
        Risk(row.risk),
        row.confidence,
        row.required_approvals,
        row.incident_verified,
        None if row.incident_severity is None else Severity(row.incident_severity),
        row.create_time,
        decided(
            rule=row.rule,
            approvals=row.approvals,
            required_approvals=row.required_approvals,
            rejected=row.rejected,
            state=State(row.state),
            superseded=row.superseded,
        ),
    )
