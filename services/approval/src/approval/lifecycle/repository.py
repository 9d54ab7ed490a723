"""The statements on approvals and decisions. Nothing here commits."""

from collections.abc import Mapping, Sequence

from sqlalchemy import TextualSelect, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from approval.actions.parsed import ParsedAction
from approval.counters import APPROVALS, SUPERSEDED
from approval.errors import ApprovalNotFoundError, RequestIdReusedError
from approval.lifecycle.rows import COLUMNS, with_decisions
from approval.model import (
    Approval,
    DecisionKind,
    OperationKind,
    Proposal,
    Severity,
    State,
)
from servicekit.database.result_columns import result_columns
from servicekit.outbox.transaction import Transaction

_GET = (
    text(f"SELECT {COLUMNS} FROM approvals WHERE approval_id = ANY (:approval_ids)")
    .bindparams(bindparam("approval_ids", type_=ARRAY(Text)))
    .columns(*result_columns(COLUMNS))
)
# In id order, so that two transactions with several approvals each cannot deadlock.
_GET_FOR_UPDATE = (
    text(
        f"SELECT {COLUMNS} FROM approvals WHERE approval_id = ANY (:approval_ids)"
        " ORDER BY approval_id FOR NO KEY UPDATE"
    )
    .bindparams(bindparam("approval_ids", type_=ARRAY(Text)))
    .columns(*result_columns(COLUMNS))
)


async def get(connection: AsyncConnection, approval_id: str) -> Approval:
    """Return an approval. Raises ApprovalNotFoundError."""
    return _one(await get_many(connection, [approval_id]), approval_id)


async def get_for_update(connection: AsyncConnection, approval_id: str) -> Approval:
    """Return an approval, locked so that it cannot change before the transaction ends. Raises ApprovalNotFoundError."""
    return _one(await get_many_for_update(connection, [approval_id]), approval_id)


async def get_many(connection: AsyncConnection, approval_ids: Sequence[str]) -> Mapping[str, Approval]:
    """Return those of the approvals that exist, by id."""
    return await _by_id(connection, _GET, approval_ids)


async def get_many_for_update(
    connection: AsyncConnection, approval_ids: Sequence[str]
) -> Mapping[str, Approval]:
    """Return those of the approvals that exist, by id, locked so that they cannot change before the transaction ends."""
    return await _by_id(connection, _GET_FOR_UPDATE, approval_ids)


def _one(found: Mapping[str, Approval], approval_id: str) -> Approval:
    if approval_id not in found:
        raise ApprovalNotFoundError(approval_id)
    return found[approval_id]


async def _by_id(
    connection: AsyncConnection, statement: TextualSelect, approval_ids: Sequence[str]
) -> Mapping[str, Approval]:
    rows = (await connection.execute(statement, {"approval_ids": list(approval_ids)})).all()
    return {approval.approval_id: approval for approval in await with_decisions(connection, rows)}


# A taken id or request id is no error: nothing is inserted.
_INSERT = text("""
    INSERT INTO approvals
        (approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, replicas, hook,
        target, parse_error, action_hash, risk, rationale, confidence, required_approvals, auto_execute, proposed_by,
        incident_verified, incident_opening, incident_severity, canary, expire_time, request_id, content_hash, supersedes,
        superseded_proposers)
    VALUES
        (:approval_id, :incident_id, :action, :operation_kind, :resource_kind, :name, :namespace, :replicas, :hook,
        :target, :parse_error, :action_hash, :risk, :rationale, :confidence, :required_approvals, :auto_execute, :proposed_by,
        :incident_verified, :incident_opening, :incident_severity, :canary, now() + make_interval(secs => :ttl_seconds), :request_id,
        :content_hash, :supersedes, :superseded_proposers)
    ON CONFLICT DO NOTHING
    RETURNING approval_id
""").bindparams(bindparam("superseded_proposers", type_=ARRAY(Text)))


async def insert(
    transaction: Transaction,
    approval_id: str,
    proposal: Proposal,
    parsed: ParsedAction,
    *,
    proposed_by: str,
    incident_verified: bool,
    incident_opening: int = 0,
    incident_severity: Severity | None = None,
    canary: bool = False,
    superseded_proposers: Sequence[str] = (),
) -> bool:
    """Insert a PENDING approval and count it; False, and nothing inserted, when its id or its request id is taken."""
    operation = parsed.operation
    inserted = await transaction.connection.scalar(
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
            "incident_opening": incident_opening,
            "incident_severity": incident_severity,
            "canary": canary,
            "ttl_seconds": proposal.ttl.total_seconds(),
            "request_id": proposal.request_id or None,
            "content_hash": proposal.content_hash(),
            "supersedes": proposal.supersedes or None,
            "superseded_proposers": list(superseded_proposers),
        },
    )
    if inserted is None:
        return False
    transaction.count(APPROVALS, State.PENDING)
    return True


# Names of the version before this one may have capitals; the index on the request id finds few rows.
_FIND_REQUEST = text("""
    SELECT approval_id, content_hash FROM approvals WHERE request_id = :request_id AND lower(proposed_by COLLATE "C") = :actor
    ORDER BY proposed_by = :actor DESC LIMIT 1
""")


async def find_request(connection: AsyncConnection, proposal: Proposal, *, actor: str) -> str | None:
    """Return the id of the approval that the actor proposed with this request id, or None.

    Raises RequestIdReusedError when it was proposed with other content.
    """
    parameters = {"request_id": proposal.request_id, "actor": actor}
    row = (await connection.execute(_FIND_REQUEST, parameters)).one_or_none()
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
    "UPDATE approvals SET update_time = now(), version = least(version, 9223372036854775806) + 1 WHERE approval_id = :approval_id"
)
_DECIDE = text("""
    UPDATE approvals SET
        state = :state, decide_time = now(), update_time = now(), version = least(version, 9223372036854775806) + 1, outcome_message = :message
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
    """Record a decision about a locked approval that the actor has not decided about yet; its version is the caller's matter.

    `policy_rule` names the rule of an auto-approval; it is empty for a person's decision.
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


async def touch(connection: AsyncConnection, approval_id: str) -> None:
    """Give a locked approval its next version, after a decision that leaves its state."""
    await connection.execute(_TOUCH, {"approval_id": approval_id})


async def decide(transaction: Transaction, approval: Approval, state: State, *, message: str) -> None:
    """Bring a locked PENDING approval to the state to which its decisions lead."""
    await transaction.connection.execute(
        _DECIDE, {"approval_id": approval.approval_id, "state": state, "message": message}
    )
    _count_transition(transaction, approval.state, state)


_CANCEL = text("""
    UPDATE approvals SET
        state = 'CANCELLED', cancelled_by = :actor, outcome_message = :reason, superseded_by = :superseded_by, decide_time = coalesce(decide_time, now()),
        update_time = now(), version = least(version, 9223372036854775806) + 1
    WHERE approval_id = :approval_id
""")


async def cancel(
    transaction: Transaction, approval: Approval, *, actor: str, reason: str, superseded_by: str = ""
) -> None:
    """Bring a locked approval that may be cancelled to CANCELLED; `superseded_by` is the one that replaces it."""
    await transaction.connection.execute(
        _CANCEL,
        {
            "approval_id": approval.approval_id,
            "actor": actor,
            "reason": reason,
            "superseded_by": superseded_by or None,
        },
    )
    if superseded_by:
        transaction.count(SUPERSEDED)
    _count_transition(transaction, approval.state, State.CANCELLED)


_EXPIRE = text("""
    WITH waiting AS (
        SELECT approval_id, state FROM approvals
        WHERE state IN ('PENDING', 'APPROVED') AND expire_time <= now()
        ORDER BY expire_time LIMIT :limit
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE approvals SET
        state = 'EXPIRED', decide_time = coalesce(decide_time, expire_time), update_time = now(), version = least(version, 9223372036854775806) + 1
    FROM waiting
    WHERE approvals.approval_id = ANY (ARRAY (SELECT approval_id FROM waiting)) AND approvals.approval_id = waiting.approval_id
    RETURNING waiting.state, approvals.approval_id
""")


async def expire(transaction: Transaction, *, limit: int) -> Sequence[Approval]:
    """Bring at most `limit` approvals that are past their expiry to EXPIRED, and return them."""
    rows = (await transaction.connection.execute(_EXPIRE, {"limit": limit})).all()
    if not rows:
        return []
    for row in rows:
        _count_transition(transaction, row.state, State.EXPIRED)
    found = await get_many(transaction.connection, [row.approval_id for row in rows])
    return list(found.values())


def _count_transition(transaction: Transaction, before: str, after: State) -> None:
    transaction.count(APPROVALS, before, -1)
    transaction.count(APPROVALS, after)
