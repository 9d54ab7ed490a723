"""The statements of running operations: started under a lease, kept alive, finished by their holder alone."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Boolean, Float, Text, Uuid

from approval.execution.log_repository import operation_to_json
from approval.lifecycle.repository import APPROVALS, EXECUTIONS
from approval.model import Approval, ExecutionOutcome, Operation, State
from servicekit.database.counters import raise_counters

_HOUR = timedelta(hours=1)
# One transaction at a time judges whether a target has had enough.
_LOCK_TARGET = text("SELECT pg_advisory_xact_lock(hashtextextended(:target, 0))")
_RECENT = text("""
    WITH ended AS (
        SELECT finish_time FROM auto_repair_executions
        WHERE target = :target AND finish_time > now() - make_interval(secs => :within_seconds)
        -- Nobody knows whether these happened: they count as if they had, or a crash would be a way around the limits.
        -- Only the one that an operator has run again does not stand in its own way.
        UNION ALL
        SELECT finish_time FROM approvals
        WHERE target = :target AND finish_time > now() - make_interval(secs => :within_seconds)
            AND state IN ('INDETERMINATE', 'CANCELLED') AND approval_id <> :approval_id
    )
    SELECT
        (SELECT count(*) FROM approvals WHERE target = :target AND state = 'EXECUTING') AS running,
        count(*) FILTER (WHERE finish_time > now() - interval '1 hour') AS last_hour,
        extract(epoch FROM now() - max(finish_time))::float8 AS seconds_since
    FROM ended
""").bindparams(bindparam("within_seconds", type_=Float))


@dataclass(frozen=True, slots=True)
class RecentRuns:
    """What was done to a target lately; `seconds_since` is None when nothing was."""

    running: int
    last_hour: int
    seconds_since: float | None


async def lock_target(
    connection: AsyncConnection, target: str, approval_id: str, *, within: timedelta
) -> RecentRuns:
    """Return what others than this approval did to a target within that time, at least an hour.

    The target is locked: nobody starts something on it before the commit.
    """
    await connection.execute(_LOCK_TARGET, {"target": target})
    asked = {
        "target": target,
        "approval_id": approval_id,
        "within_seconds": max(within, _HOUR).total_seconds(),
    }
    row = (await connection.execute(_RECENT, asked)).one()
    return RecentRuns(row.running, row.last_hour, row.seconds_since)


_START = text("""
    UPDATE approvals SET
        state = 'EXECUTING', execute_time = now(), finish_time = NULL, execution_token = :token, outcome_message = '',
        execution_lease_until = now() + make_interval(secs => :lease_seconds), update_time = now(),
        version = version + 1
    WHERE approval_id = :approval_id
""").bindparams(bindparam("token", type_=Uuid), bindparam("lease_seconds", type_=Float))


async def start(
    connection: AsyncConnection, approval: Approval, *, lease: timedelta, shard: int
) -> uuid.UUID:
    """Bring a locked approval to EXECUTING and return the token that lets this run, and no other, finish it."""
    token = uuid.uuid4()
    await connection.execute(
        _START,
        {"approval_id": approval.approval_id, "token": token, "lease_seconds": lease.total_seconds()},
    )
    await raise_counters(
        connection, {(APPROVALS, approval.state): -1, (APPROVALS, State.EXECUTING): 1}, shard=shard
    )
    return token


_HEARTBEAT = text("""
    UPDATE approvals SET execution_lease_until = now() + make_interval(secs => :lease_seconds)
    WHERE approval_id = :approval_id AND execution_token = :token AND state = 'EXECUTING'
    RETURNING approval_id
""").bindparams(bindparam("token", type_=Uuid), bindparam("lease_seconds", type_=Float))


async def heartbeat(
    connection: AsyncConnection, approval_id: str, token: uuid.UUID, *, lease: timedelta
) -> bool:
    """Keep a run's lease; False when it is not this run's any more."""
    kept = await connection.scalar(
        _HEARTBEAT, {"approval_id": approval_id, "token": token, "lease_seconds": lease.total_seconds()}
    )
    return kept is not None


_FINISH = text("""
    UPDATE approvals SET
        state = :state, outcome_message = :message, finish_time = now(), execution_token = NULL,
        execution_lease_until = NULL, update_time = now(), version = version + 1
    WHERE approval_id = :approval_id AND execution_token = :token AND state = 'EXECUTING'
    RETURNING incident_id, execute_time
""").bindparams(bindparam("token", type_=Uuid))
_LOG = text("""
    INSERT INTO auto_repair_executions
        (approval_id, incident_id, target, operation, succeeded, output, error, executor, start_time)
    VALUES
        (:approval_id, :incident_id, :target, :operation, :succeeded, :output, :error, :executor, :start_time)
""").bindparams(bindparam("operation", type_=JSONB), bindparam("succeeded", type_=Boolean))


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: what it said, or why it did not work."""

    succeeded: bool
    text: str


async def finish(
    connection: AsyncConnection,
    approval_id: str,
    token: uuid.UUID,
    operation: Operation,
    result: RunResult,
    *,
    executor: str,
    shard: int,
) -> bool:
    """Bring a run to SUCCEEDED or FAILED, log and count it. False, and nothing written, when it is not its run any more."""
    state = State.SUCCEEDED if result.succeeded else State.FAILED
    row = (
        await connection.execute(
            _FINISH, {"approval_id": approval_id, "token": token, "state": state, "message": result.text}
        )
    ).one_or_none()
    if row is None:
        return False
    await connection.execute(
        _LOG,
        {
            "approval_id": approval_id,
            "incident_id": row.incident_id,
            "target": operation.target,
            "operation": operation_to_json(operation),
            "succeeded": result.succeeded,
            "output": result.text if result.succeeded else "",
            "error": "" if result.succeeded else result.text,
            "executor": executor,
            "start_time": row.execute_time,
        },
    )
    outcome = ExecutionOutcome.SUCCEEDED if result.succeeded else ExecutionOutcome.FAILED
    await raise_counters(
        connection,
        {(APPROVALS, State.EXECUTING): -1, (APPROVALS, state): 1, (EXECUTIONS, outcome): 1},
        shard=shard,
    )
    return True


# A run whose process died: it may have happened or not, so nobody runs it again by itself.
_ABANDONED = text("""
    UPDATE approvals SET
        state = 'INDETERMINATE', outcome_message = :message, finish_time = now(), execution_token = NULL,
        execution_lease_until = NULL, update_time = now(), version = version + 1
    FROM (
        SELECT approval_id FROM approvals
        WHERE state = 'EXECUTING' AND execution_lease_until < now()
        ORDER BY execution_lease_until LIMIT :limit
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS abandoned
    WHERE approvals.approval_id = abandoned.approval_id
    RETURNING approvals.approval_id, approvals.incident_id
""").bindparams(bindparam("message", type_=Text))


async def mark_abandoned(
    connection: AsyncConnection, *, message: str, limit: int, shard: int
) -> Sequence[tuple[str, str]]:
    """Bring runs whose lease ended to INDETERMINATE; returns their approval and incident ids."""
    rows = (await connection.execute(_ABANDONED, {"message": message, "limit": limit})).all()
    if rows:
        await raise_counters(
            connection,
            {
                (APPROVALS, State.EXECUTING): -len(rows),
                (APPROVALS, State.INDETERMINATE): len(rows),
                (EXECUTIONS, ExecutionOutcome.INDETERMINATE): len(rows),
            },
            shard=shard,
        )
    return [(row.approval_id, row.incident_id) for row in rows]
