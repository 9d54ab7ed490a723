"""Many rounds of calls that race, over approvals that are copies of one."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg
import grpc.aio

from awoooi.approval.v1 import approval_pb2
from tests.approval.callers import State
from tests.approval.schemas import rows
from tests.rpc_errors import Refused, read_refusal

Found = TypeVar("Found")

# Rounds that run side by side; more would wait for the database, not for each other.
_TOGETHER = 20

_COPY = """
    INSERT INTO approvals
    SELECT (jsonb_populate_record(original, changes)).*
    FROM approvals AS original, jsonb_array_elements($2::jsonb) AS changes
    WHERE original.approval_id = $1
"""
_COPY_DECISIONS = """
    INSERT INTO approval_decisions (approval_id, actor, kind, reason, decide_time, policy_rule)
    SELECT copied, actor, kind, reason, decide_time, policy_rule
    FROM approval_decisions, unnest($2::text[]) AS copied
    WHERE approval_id = $1
"""
_COUNT = """
    INSERT INTO counters (name, label, shard, value) VALUES ('approvals', $1, 0, $2)
    ON CONFLICT (name, label, shard) DO UPDATE SET value = counters.value + excluded.value
"""


async def copies(
    url: str, original: approval_pb2.Approval, changes: Sequence[Mapping[str, Any]]
) -> Sequence[str]:
    """The ids of copies of an approval with its decisions, counted like any other; one for each set of changes."""
    ids = [f"APR-20260507-{secrets.token_hex(6).upper()}" for _ in changes]
    changed = [{**each, "approval_id": copied} for copied, each in zip(ids, changes, strict=True)]
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute(_COPY, original.approval_id, json.dumps(changed))
            await connection.execute(_COPY_DECISIONS, original.approval_id, ids)
            state = State.Name(original.state).removeprefix("STATE_")
            await connection.execute(_COUNT, state, len(ids))
    finally:
        await connection.close()
    return ids


async def in_rounds(
    one_round: Callable[[int, str], Awaitable[Found]], approval_ids: Sequence[str]
) -> Sequence[Found]:
    """What each round gave, in order; `one_round` gets its number and its approval's id."""
    room = asyncio.Semaphore(_TOGETHER)

    async def bounded(number: int, approval_id: str) -> Found:
        async with room:
            return await one_round(number, approval_id)

    return await asyncio.gather(
        *(bounded(number, approval_id) for number, approval_id in enumerate(approval_ids))
    )


async def race(*calls: Awaitable[Found]) -> Sequence[Found | Refused]:
    """What each of the calls gave that are in flight together: its answer, or how it was refused."""
    found: list[Found | Refused] = []
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, grpc.aio.AioRpcError):
            found.append(read_refusal(outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            found.append(outcome)
    return found


async def counters(url: str, name: str) -> Mapping[str, int]:
    """A counter's values by label, without those that are zero."""
    found = await rows(
        url,
        "SELECT label, sum(value)::bigint FROM counters WHERE name = $1 GROUP BY label HAVING sum(value) <> 0",
        name,
    )
    return dict(found)


async def states(url: str) -> Mapping[str, int]:
    """How many approvals are in each state, counted one by one."""
    return dict(await rows(url, "SELECT state, count(*) FROM approvals GROUP BY state"))
