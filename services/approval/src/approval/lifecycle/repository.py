"""Every statement on approvals, decisions and their counters. Nothing here commits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from approval.errors import RequestIdReusedError
from approval.model import (
    Approval,
    Decision,
    DecisionKind,
    Operation,
    OperationKind,
    Outcome,
    Proposal,
    Risk,
    State,
)
from servicekit.database.counters import raise_counters

COLUMNS = """
    approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, replicas, hook, parse_error,
    action_hash, risk, rationale, confidence, required_approvals, auto_execute, state, proposed_by, incident_verified,
    create_time, update_time, expire_time, decide_time, execute_time, finish_time, outcome_message,
    cancelled_by, incident_resolve_time, version, expire_time <= now() AS is_past_expiry
"""

# Counters: approvals by state go up and down, the others only up.
APPROVALS = "approvals"
EXECUTIONS = "executions"
NOOP_RESOLUTIONS = "noop_resolutions"


def to_approval(row: Any, decisions: Sequence[Decision]) -> Approval:
    """Return the approval in a row of COLUMNS."""
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
        create_time=row.create_time,
        update_time=row.update_time,
        expire_time=row.expire_time,
        decide_time=row.decide_time,
        execute_time=row.execute_time,
        finish_time=row.finish_time,
        outcome_message=row.outcome_message,
        cancelled_by=row.cancelled_by,
        incident_resolve_time=row.incident_resolve_time,
        version=row.version,
        decisions=decisions,
        is_past_expiry=row.is_past_expiry,
    )


_GET = text(f"SELECT {COLUMNS} FROM approvals WHERE approval_id = ANY (:approval_ids)").bindparams(
    bindparam("approval_ids", type_=ARRAY(Text))
)
# In id order, so that two callers with several approvals each cannot deadlock.
_GET_FOR_UPDATE = text(
    f"SELECT {COLUMNS} FROM approvals WHERE approval_id = ANY (:approval_ids) ORDER BY approval_id FOR NO KEY UPDATE"
).bindparams(bindparam("approval_ids", type_=ARRAY(Text)))
_DECISIONS = text("""
    SELECT approval_id, actor, kind, reason, decide_time, policy_rule FROM approval_decisions
    WHERE approval_id = ANY (:approval_ids) ORDER BY sequence
""").bindparams(bindparam("approval_ids", type_=ARRAY(Text)))


async def get(connection: AsyncConnection, approval_ids: Sequence[str]) -> Mapping[str, Approval]:
    """Return those of the approvals that exist, by id."""
    rows = (await connection.execute(_GET, {"approval_ids": list(approval_ids)})).all()
    return {approval.approval_id: approval for approval in await with_decisions(connection, rows)}


async def get_for_update(connection: AsyncConnection, approval_ids: Sequence[str]) -> Mapping[str, Approval]:
    """Return approvals by id, locked so that their state cannot change before the transaction ends."""
    rows = (await connection.execute(_GET_FOR_UPDATE, {"approval_ids": list(approval_ids)})).all()
    return {approval.approval_id: approval for approval in await with_decisions(connection, rows)}


async def with_decisions(connection: AsyncConnection, rows: Sequence[Any]) -> Sequence[Approval]:
    """Return the approvals in rows of COLUMNS, each with its decisions, in the rows' order."""
    decisions: dict[str, list[Decision]] = {row.approval_id: [] for row in rows}
    if rows:
        for approval_id, actor, kind, *rest in await connection.execute(
            _DECISIONS, {"approval_ids": list(decisions)}
        ):
            decisions[approval_id].append(Decision(actor, DecisionKind(kind), *rest))
    return [to_approval(row, decisions[row.approval_id]) for row in rows]


# Whatever unique constraint is in the way (id or request id), nothing is inserted and nothing fails.
_INSERT = text("""
    INSERT INTO approvals
        (approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, replicas, hook,
        target, parse_error, action_hash, risk, rationale, confidence, required_approvals, auto_execute, proposed_by,
        incident_verified, expire_time, request_id, content_hash)
    VALUES
        (:approval_id, :incident_id, :action, :operation_kind, :resource_kind, :name, :namespace, :replicas, :hook,
        :target, :parse_error, :action_hash, :risk, :rationale, :confidence, :required_approvals, :auto_execute, :proposed_by,
        :incident_verified, now() + make_interval(secs => :ttl_seconds), :request_id, :content_hash)
    ON CONFLICT DO NOTHING
    RETURNING approval_id
""")


@dataclass(frozen=True, slots=True)
class ParsedAction:
    """An action and what it was parsed as: an operation, or an error."""

    operation: Operation | None
    error: str
    hash: str


async def insert(
    connection: AsyncConnection,
    approval_id: str,
    proposal: Proposal,
    parsed: ParsedAction,
    *,
    proposed_by: str,
    incident_verified: bool,
) -> bool:
    """Insert a PENDING approval. Returns False, and inserts nothing, when its id or its request id is taken."""
    operation = parsed.operation
    inserted = await connection.scalar(
        _INSERT,
        {
            "approval_id": approval_id,
            "incident_id": proposal.incident_id,
            "action": proposal.action,
            "operation_kind": None if operation is None else operation.kind,
            "resource_kind": "" if operation is None else operation.resource_kind,
            "name": "" if operation is None else operation.name,
            "namespace": "" if operation is None else operation.namespace,
            "replicas": None if operation is None else operation.replicas,
            "hook": "" if operation is None else operation.hook,
            "target": None
            if operation is None or operation.kind is OperationKind.NO_ACTION
            else operation.target,
            "parse_error": parsed.error,
            "action_hash": parsed.hash,
            "risk": proposal.risk,
            "rationale": proposal.rationale,
            "confidence": proposal.confidence,
            "required_approvals": proposal.required_approvals,
            "auto_execute": proposal.auto_execute,
            "proposed_by": proposed_by,
            "incident_verified": incident_verified,
            "ttl_seconds": proposal.ttl.total_seconds(),
            "request_id": proposal.request_id or None,
            "content_hash": proposal.content_hash(),
        },
    )
    return inserted is not None


_FIND_REQUEST = text("SELECT approval_id, content_hash FROM approvals WHERE request_id = :request_id")


async def find_request(connection: AsyncConnection, proposal: Proposal) -> str | None:
    """Return the id of the approval that was proposed with this request id, or None.

    Raises RequestIdReusedError when it was proposed with other content.
    """
    row = (await connection.execute(_FIND_REQUEST, {"request_id": proposal.request_id})).one_or_none()
    if row is None:
        return None
    if row.content_hash != proposal.content_hash():
        raise RequestIdReusedError
    approval_id: str = row.approval_id
    return approval_id


_INSERT_DECISION = text("""
    INSERT INTO approval_decisions (approval_id, actor, kind, reason, policy_rule)
    VALUES (:approval_id, :actor, :kind, :reason, :policy_rule)
""")
_TOUCH = text(
    "UPDATE approvals SET update_time = now(), version = version + 1 WHERE approval_id = :approval_id"
)
_DECIDE = text("""
    UPDATE approvals SET
        state = :state, decide_time = now(), update_time = now(), version = version + 1, outcome_message = :message
    WHERE approval_id = :approval_id
""")


async def insert_decision(
    connection: AsyncConnection,
    approval_id: str,
    *,
    actor: str,
    kind: DecisionKind,
    reason: str,
    policy_rule: str = "",
) -> None:
    """Record what an actor said about a locked approval that the actor has not decided about yet.

    `policy_rule` names the rule that decided by itself; nothing else sets it.
    """
    await connection.execute(
        _INSERT_DECISION,
        {
            "approval_id": approval_id,
            "actor": actor,
            "kind": kind,
            "reason": reason,
            "policy_rule": policy_rule,
        },
    )
    await connection.execute(_TOUCH, {"approval_id": approval_id})


async def decide(
    connection: AsyncConnection, approval: Approval, state: State, *, message: str, shard: int
) -> None:
    """Bring a locked PENDING approval to the state that its decisions come to."""
    await connection.execute(
        _DECIDE, {"approval_id": approval.approval_id, "state": state, "message": message}
    )
    await raise_counters(connection, {(APPROVALS, approval.state): -1, (APPROVALS, state): 1}, shard=shard)


_CANCEL = text("""
    UPDATE approvals SET
        state = 'CANCELLED', cancelled_by = :actor, outcome_message = :reason, decide_time = coalesce(decide_time, now()),
        update_time = now(), version = version + 1
    WHERE approval_id = :approval_id
""")


async def cancel(
    connection: AsyncConnection, approval: Approval, *, actor: str, reason: str, shard: int
) -> None:
    """Bring a locked approval that may be cancelled to CANCELLED."""
    await connection.execute(_CANCEL, {"approval_id": approval.approval_id, "actor": actor, "reason": reason})
    await raise_counters(
        connection, {(APPROVALS, approval.state): -1, (APPROVALS, State.CANCELLED): 1}, shard=shard
    )


_FINISH = text("""
    UPDATE approvals SET
        state = finished.state, outcome_message = finished.message, execute_time = now(), finish_time = now(),
        update_time = now(), version = version + 1
    FROM unnest(:approval_ids, :states, :messages) AS finished (approval_id, state, message)
    WHERE approvals.approval_id = finished.approval_id
""").bindparams(
    bindparam("approval_ids", type_=ARRAY(Text)),
    bindparam("states", type_=ARRAY(Text)),
    bindparam("messages", type_=ARRAY(Text)),
)


async def finish(
    connection: AsyncConnection, outcomes: Sequence[tuple[Approval, Outcome]], *, shard: int
) -> None:
    """Bring locked APPROVED approvals to their outcomes, and count them."""
    await connection.execute(
        _FINISH,
        {
            "approval_ids": [approval.approval_id for approval, _ in outcomes],
            "states": [outcome.state for _, outcome in outcomes],
            "messages": [outcome.message for _, outcome in outcomes],
        },
    )
    amounts: dict[tuple[str, str], int] = {}
    for approval, outcome in outcomes:
        for key, amount in (
            ((APPROVALS, approval.state), -1),
            ((APPROVALS, outcome.state), 1),
            ((EXECUTIONS, outcome.counted_as), 1),
        ):
            amounts[key] = amounts.get(key, 0) + amount
    await raise_counters(connection, amounts, shard=shard)


_ACKNOWLEDGE = text("""
    UPDATE approvals SET incident_resolve_time = now(), update_time = now(), version = version + 1
    FROM (
        SELECT approval_id FROM approvals WHERE approval_id = ANY (:approval_ids)
        ORDER BY approval_id
        FOR NO KEY UPDATE
    ) AS told
    WHERE approvals.approval_id = told.approval_id AND incident_resolve_time IS NULL
    RETURNING operation_kind
""").bindparams(bindparam("approval_ids", type_=ARRAY(Text)))


async def acknowledge(connection: AsyncConnection, approval_ids: Sequence[str], *, shard: int) -> None:
    """Record that the incident service acknowledged these resolves, and count the NO_ACTION ones: each once."""
    kinds = list(await connection.scalars(_ACKNOWLEDGE, {"approval_ids": sorted(approval_ids)}))
    noops = kinds.count(OperationKind.NO_ACTION)
    if noops:
        await raise_counters(connection, {(NOOP_RESOLUTIONS, ""): noops}, shard=shard)
