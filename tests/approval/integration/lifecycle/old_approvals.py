"""Approvals as they are long after they ended, written past the service."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from approval.lifecycle.retention import Retention
from servicekit.outbox.transaction import Transactions
from servicekit.retention import Removal, remove_batch

KEEP = timedelta(days=30)
DAY = timedelta(days=1)

_INSERT = """
    INSERT INTO approvals (approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, hook,
        parse_error, action_hash, risk, rationale, required_approvals, auto_execute, state, proposed_by,
        incident_verified, create_time, update_time, expire_time, decide_time, execute_time, finish_time, content_hash,
        incident_resolve_time, request_id)
    SELECT $1, 'INC-20260101-AAAAAA', 'NO_ACTION', 'NO_ACTION', '', '', '', '', '', '', 'LOW', '', 1, false, $2, 'ai',
        true, ago, ago, ago, ago, CASE WHEN $2 = ANY ($5) THEN ago END, CASE WHEN $2 = ANY ($5) THEN ago END, '',
        CASE WHEN $4 THEN ago END, $1
    FROM (SELECT now() - make_interval(secs => $3::float8 * 86400)) AS old (ago)
"""
_FINISHED = ["SUCCEEDED", "FAILED", "INDETERMINATE"]


async def insert_old(
    rows: "asyncpg.Connection[Any]",
    *,
    days_ago: float,
    state: str = "SUCCEEDED",
    acknowledged: bool = True,
) -> str:
    """Insert an approval with a decision, an execution, and its done deliveries; counted in its state."""
    approval_id = f"APR-20260101-{secrets.token_hex(6).upper()}"
    await rows.execute(
        _INSERT, approval_id, state, days_ago, acknowledged and state == "SUCCEEDED", _FINISHED
    )
    await rows.execute(
        "INSERT INTO approval_decisions (approval_id, actor, kind, reason) VALUES ($1, 'bob', 'APPROVE', '')",
        approval_id,
    )
    if state in _FINISHED:
        await rows.execute(
            """
            INSERT INTO auto_repair_executions (approval_id, incident_id, target, operation, succeeded, output, error,
                executor, start_time, finish_time)
            VALUES ($1, '', '', '{}', true, '', '', '', now(), now() - make_interval(secs => $2::float8 * 86400))
            """,
            approval_id,
            days_ago,
        )
    await rows.execute(
        "INSERT INTO counters (name, label, shard, value) VALUES ('approvals', $1, 0, 1)"
        " ON CONFLICT (name, label, shard) DO UPDATE SET value = counters.value + 1",
        state,
    )
    return approval_id


async def insert_job(
    rows: "asyncpg.Connection[Any]", topic: str, dedup_key: str, *, state: str = "PENDING"
) -> None:
    """Insert an outbox job that no worker takes soon."""
    await rows.execute(
        "INSERT INTO outbox (topic, dedup_key, payload, state, next_attempt_time)"
        " VALUES ($1, $2, '{}', $3, now() + interval '1 day')",
        topic,
        dedup_key,
        state,
    )


def retention(**options: Any) -> Retention:
    return Retention(**({"keep": KEEP, "keep_finished": DAY} | options))


async def remove_all(transactions: Transactions, **options: Any) -> Sequence[Removal]:
    """Remove as a process does, until there is no more; returns the batches."""
    mine = retention(**options)
    batches = [await remove_batch(transactions, mine.remove_next)]
    while batches[-1].has_more:
        batches.append(await remove_batch(transactions, mine.remove_next))
    return batches


async def left(rows: "asyncpg.Connection[Any]") -> set[str]:
    return {row["approval_id"] for row in await rows.fetch("SELECT approval_id FROM approvals")}
