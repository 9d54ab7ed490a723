"""The statements of executions: outcomes that need no executor; runs under a lease, finished by their holder alone."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Boolean, DateTime, Float, Text, Uuid

from approval.counters import APPROVALS, EXECUTIONS, RECOVERIES
from approval.execution.limits import RecentRuns
from approval.execution.log_repository import operation_to_json
from approval.execution.model import Outcome, RunResult
from approval.model import Approval, ExecutionOutcome, Operation, Recovery, State
from approval.recovery import repository as recovery_repository
from approval.recovery.model import RecoveryRules
from servicekit.outbox.transaction import Transaction

# As in every statement on many approvals, their ids are a condition of the key's index, so that no others are read: a plan that
# was made while the table was small is kept while it grows.
_RECORD_OUTCOMES = text("""
    UPDATE approvals SET
        state = finished.state, outcome_message = finished.message, execute_time = now(), finish_time = now(),
        update_time = now(), version = least(version, 9223372036854775806) + 1
    FROM unnest(:approval_ids, :states, :messages) AS finished (approval_id, state, message)
    WHERE approvals.approval_id = ANY (:approval_ids) AND approvals.approval_id = finished.approval_id
""").bindparams(
    bindparam("approval_ids", type_=ARRAY(Text)),
    bindparam("states", type_=ARRAY(Text)),
    bindparam("messages", type_=ARRAY(Text)),
)


async def record_outcomes(transaction: Transaction, outcomes: Sequence[tuple[Approval, Outcome]]) -> None:
    """Bring locked APPROVED approvals to outcomes that needed no run, and count them."""
    await transaction.connection.execute(
        _RECORD_OUTCOMES,
        {
            "approval_ids": [approval.approval_id for approval, _ in outcomes],
            "states": [outcome.state for _, outcome in outcomes],
            "messages": [outcome.message for _, outcome in outcomes],
        },
    )
    for approval, outcome in outcomes:
        transaction.count(APPROVALS, approval.state, -1)
        transaction.count(APPROVALS, outcome.state)
        if not approval.canary:
            transaction.count(EXECUTIONS, outcome.counted_as)


_HOUR = timedelta(hours=1)
# Limits are checked by one transaction at a time for each target, which holds the target's row. Processes of the version before
# 0014 know the advisory lock alone: for this release both are held, the row first, so that the two versions exclude each other.
_LOCK_TARGET = text("""
    WITH locked AS (
        INSERT INTO targets (target) VALUES (:target)
        ON CONFLICT (target) DO UPDATE SET claim_time = now()
        RETURNING target
    )
    SELECT pg_advisory_xact_lock(hashtextextended(target, 0)) FROM locked
""")
_RECENT = text("""
    WITH ended AS (
        SELECT finish_time FROM auto_repair_executions
        WHERE target = :target AND finish_time > now() - make_interval(secs => :within_seconds)
        -- These may have happened: they count as if they had, or a crash would be a way around the limits. Except the
        -- one that an operator runs again.
        UNION ALL
        SELECT finish_time FROM approvals
        WHERE target = :target AND finish_time > now() - make_interval(secs => :within_seconds)
            AND state IN ('INDETERMINATE', 'CANCELLED') AND approval_id <> :approval_id
    )
    SELECT
        (SELECT count(*) FROM approvals WHERE target = :target AND state = 'EXECUTING') AS running,
        count(*) FILTER (WHERE finish_time > now() - interval '1 hour') AS last_hour,
        -- Not greatest() alone, which takes 0 for NULL: a target that was never operated on has no cool-down.
        CASE WHEN count(*) > 0 THEN greatest(extract(epoch FROM now() - max(finish_time)), 0)::float8 END AS seconds_since
    FROM ended
""").bindparams(bindparam("within_seconds", type_=Float))


async def lock_target(
    connection: AsyncConnection, target: str, approval_id: str, *, within: timedelta
) -> RecentRuns:
    """Return the runs of other approvals on a target within that time, at least an hour.

    The target is locked: no other run starts on it before the commit.
    """
    await connection.execute(_LOCK_TARGET, {"target": target})
    parameters = {
        "target": target,
        "approval_id": approval_id,
        "within_seconds": max(within, _HOUR).total_seconds(),
    }
    row = (await connection.execute(_RECENT, parameters)).one()
    return RecentRuns(row.running, row.last_hour, row.seconds_since)


_REMOVE_IDLE = text("""
    DELETE FROM targets WHERE target = ANY (ARRAY (
        SELECT target FROM targets WHERE claim_time < now() - make_interval(secs => :idle_seconds)
        ORDER BY claim_time LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ))
""").bindparams(bindparam("idle_seconds", type_=Float))


async def remove_idle_targets(connection: AsyncConnection, *, idle: timedelta, limit: int) -> int:
    """Remove at most `limit` targets that nothing was claimed on for that long; return how many. A locked one stays."""
    result = await connection.execute(_REMOVE_IDLE, {"idle_seconds": idle.total_seconds(), "limit": limit})
    return result.rowcount


_START = text("""
    UPDATE approvals SET
        state = 'EXECUTING', execute_time = now(), finish_time = NULL, execution_token = :token, outcome_message = '',
        execution_lease_until = now() + make_interval(secs => :lease_seconds), update_time = now(),
        version = least(version, 9223372036854775806) + 1
    WHERE approval_id = :approval_id
    RETURNING execute_time
""").bindparams(bindparam("token", type_=Uuid), bindparam("lease_seconds", type_=Float))


async def start(
    transaction: Transaction, approval: Approval, *, lease: timedelta
) -> tuple[uuid.UUID, datetime]:
    """Bring a locked approval to EXECUTING; return the token that lets this run, and no other, finish it, and the time."""
    token = uuid.uuid4()
    execute_time: datetime = await transaction.connection.scalar(
        _START,
        {"approval_id": approval.approval_id, "token": token, "lease_seconds": lease.total_seconds()},
    )
    transaction.count(APPROVALS, approval.state, -1)
    transaction.count(APPROVALS, State.EXECUTING)
    return token, execute_time


# A run by its key. (Compared with the state as it is, an index of all open approvals would be another way to find it.)
_IS_MINE = "approval_id = :approval_id AND execution_token = :token AND state || '' = 'EXECUTING'"
_GIVE_BACK = text(f"""
    UPDATE approvals SET
        state = :state, execute_time = :execute_time, finish_time = :finish_time, outcome_message = :message,
        execution_token = NULL, execution_lease_until = NULL, update_time = now(),
        version = least(version, 9223372036854775806) + 1
    WHERE {_IS_MINE}
    RETURNING approval_id
""").bindparams(
    bindparam("token", type_=Uuid),
    bindparam("execute_time", type_=DateTime(timezone=True)),
    bindparam("finish_time", type_=DateTime(timezone=True)),
)


async def give_back(transaction: Transaction, before: Approval, token: uuid.UUID) -> bool:
    """Bring a run that has done nothing back to what its approval was before; False when it no longer holds the lease."""
    given_back = await transaction.connection.scalar(
        _GIVE_BACK,
        {
            "approval_id": before.approval_id,
            "token": token,
            "state": before.state,
            "execute_time": before.execute_time,
            "finish_time": before.finish_time,
            "message": before.outcome_message,
        },
    )
    if given_back is None:
        return False
    transaction.count(APPROVALS, State.EXECUTING, -1)
    transaction.count(APPROVALS, before.state)
    return True


_HEARTBEAT = text(f"""
    UPDATE approvals SET execution_lease_until = now() + make_interval(secs => :lease_seconds)
    WHERE {_IS_MINE}
    RETURNING approval_id
""").bindparams(bindparam("token", type_=Uuid), bindparam("lease_seconds", type_=Float))


async def heartbeat(
    connection: AsyncConnection, approval_id: str, token: uuid.UUID, *, lease: timedelta
) -> bool:
    """Extend a run's lease; False when this run no longer holds it."""
    extended = await connection.scalar(
        _HEARTBEAT, {"approval_id": approval_id, "token": token, "lease_seconds": lease.total_seconds()}
    )
    return extended is not None


_FINISH_RUN = text(f"""
    UPDATE approvals SET
        state = :state, outcome_message = :message, finish_time = now(), execution_token = NULL,
        execution_lease_until = NULL, update_time = now(), version = least(version, 9223372036854775806) + 1,
        recovery = :recovery, recovery_time = CASE WHEN :recovery <> '' THEN now() END,
        recovery_deadline = now() + make_interval(secs => :window_seconds)
    WHERE {_IS_MINE}
    RETURNING incident_id, execute_time
""").bindparams(
    bindparam("token", type_=Uuid),
    bindparam("recovery", type_=Text),
    bindparam("window_seconds", type_=Float),
)
_LOG = text("""
    INSERT INTO auto_repair_executions
        (approval_id, incident_id, target, operation, succeeded, output, error, executor, start_time)
    VALUES
        (:approval_id, :incident_id, :target, :operation, :succeeded, :output, :error, :executor, :start_time)
""").bindparams(bindparam("operation", type_=JSONB), bindparam("succeeded", type_=Boolean))


async def finish_run(
    transaction: Transaction,
    approval_id: str,
    token: uuid.UUID,
    operation: Operation,
    result: RunResult,
    *,
    executor: str,
    recovery: RecoveryRules | None,
) -> bool:
    """Bring a run to SUCCEEDED or FAILED, log and count it; False, and nothing written, when it no longer holds the lease.

    Whether one that succeeded has helped is looked at by the rules of `recovery`; without rules it is UNVERIFIED.
    """
    state = State.SUCCEEDED if result.succeeded else State.FAILED
    verified_by = recovery if result.succeeded else None
    row = (
        await transaction.connection.execute(
            _FINISH_RUN,
            {
                "approval_id": approval_id,
                "token": token,
                "state": state,
                "message": result.text,
                "recovery": _recovery(result, recovery),
                # NULL: there is no window.
                "window_seconds": verified_by.window.total_seconds() if verified_by else None,
            },
        )
    ).one_or_none()
    if row is None:
        return False
    if verified_by is not None:
        await recovery_repository.begin(
            transaction.connection, approval_id, row.incident_id, interval=verified_by.interval
        )
    elif result.succeeded:
        transaction.count(RECOVERIES, Recovery.UNVERIFIED)
    await transaction.connection.execute(
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
    transaction.count(APPROVALS, State.EXECUTING, -1)
    transaction.count(APPROVALS, state)
    transaction.count(EXECUTIONS, outcome)
    return True


def _recovery(result: RunResult, rules: RecoveryRules | None) -> str:
    if not result.succeeded:
        return ""
    return Recovery.UNVERIFIED if rules is None else Recovery.PENDING


# A run whose process died may have happened or not, so it is not run again.
_ABANDONED = text("""
    WITH abandoned AS (
        SELECT approval_id FROM approvals
        WHERE state = 'EXECUTING' AND execution_lease_until < now()
        ORDER BY execution_lease_until LIMIT :limit
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE approvals SET
        state = 'INDETERMINATE', outcome_message = :message, finish_time = now(), execution_token = NULL,
        execution_lease_until = NULL, update_time = now(), version = least(version, 9223372036854775806) + 1
    FROM abandoned
    WHERE approvals.approval_id = ANY (ARRAY (SELECT approval_id FROM abandoned)) AND approvals.approval_id = abandoned.approval_id
    RETURNING approvals.approval_id
""").bindparams(bindparam("message", type_=Text))


async def mark_abandoned(transaction: Transaction, *, message: str, limit: int) -> Sequence[str]:
    """Bring at most `limit` runs whose lease ended to INDETERMINATE, count them, and return their approvals' ids."""
    found = await transaction.connection.scalars(_ABANDONED, {"message": message, "limit": limit})
    approval_ids = list(found)
    transaction.count(APPROVALS, State.EXECUTING, -len(approval_ids))
    transaction.count(APPROVALS, State.INDETERMINATE, len(approval_ids))
    transaction.count(EXECUTIONS, ExecutionOutcome.INDETERMINATE, len(approval_ids))
    return approval_ids
