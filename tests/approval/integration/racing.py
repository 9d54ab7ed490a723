"""Many rounds of concurrent calls, on approvals that are copies of one, over two processes."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg

from awoooi.approval.v1 import approval_pb2
from awoooi.client import CallError
from tests.approval.schemas import rows
from tests.callers import Approvals, State
from tests.eventually import eventually
from tests.receiver import Receiver
from tests.rpc_errors import Refused, read_refusal

Found = TypeVar("Found")

ROUNDS = 1000
SAME: Sequence[dict[str, str]] = [{}] * ROUNDS

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
    changed = [
        {**each, "approval_id": copied, "request_id": None} for copied, each in zip(ids, changes, strict=True)
    ]
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
    """The results of the rounds, in order; `one_round` gets its number and its approval's id."""
    room = asyncio.Semaphore(_TOGETHER)

    async def bounded(number: int, approval_id: str) -> Found:
        async with room:
            return await one_round(number, approval_id)

    return await asyncio.gather(
        *(bounded(number, approval_id) for number, approval_id in enumerate(approval_ids))
    )


async def repeat(one_round: Callable[[], Awaitable[Found]], rounds: int) -> Sequence[Found]:
    """The results of so many rounds, of which a few run side by side."""
    return await in_rounds(lambda _number, _approval_id: one_round(), [""] * rounds)


async def race(*calls: Awaitable[Found]) -> Sequence[Found | Refused]:
    """The result of each of these concurrent calls: its response, or the error."""
    found: list[Found | Refused] = []
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, CallError):
            found.append(read_refusal(outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            found.append(outcome)
    return found


async def counters(url: str, name: str) -> Mapping[str, int]:
    """A counter's values by label, without zeros."""
    found = await rows(
        url,
        "SELECT label, sum(value)::bigint FROM counters WHERE name = $1 GROUP BY label HAVING sum(value) <> 0",
        name,
    )
    return dict(found)


async def states(url: str) -> Mapping[str, int]:
    """How many approvals are in each state, counted one by one."""
    return dict(await rows(url, "SELECT state, count(*) FROM approvals GROUP BY state"))


class Racers:
    """Two processes over one database, and the receiver of their hooks."""

    def __init__(self, url: str, services: Sequence[Approvals], hooks: Receiver) -> None:
        self.url = url
        self.hooks = hooks
        self._services = services

    def pair(self, number: int) -> tuple[Approvals, Approvals]:
        """The processes that are called in a round: each with the other and each with itself in turn."""
        return self._services[number % 2], self._services[number // 2 % 2]


async def count_executed(url: str) -> int:
    """How many approvals were executed, once no execution is queued; each has one resolve."""
    waiting = "SELECT FROM outbox WHERE topic = 'approval.execute' AND state = 'PENDING'"
    await eventually(lambda: rows(url, waiting), lambda found: not found)
    succeeded = "SELECT approval_id FROM approvals WHERE state = 'SUCCEEDED' ORDER BY 1"
    resolves = "SELECT dedup_key FROM outbox WHERE topic = 'incident.resolve' ORDER BY 1"
    executed = await rows(url, succeeded)
    assert await rows(url, resolves) == executed
    return len(executed)
