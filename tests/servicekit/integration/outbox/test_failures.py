"""What fails in an outbox: retried, parked, and never at a neighbour's cost."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.outbox.batch_delivery import Backoff
from servicekit.outbox.delivery_outcome import RpcFailedError
from servicekit.outbox.handler import PermanentError, Topic
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction
from tests.eventually import eventually
from tests.servicekit.outbox_cases import (
    Gate,
    Scripted,
    claim,
    each,
    end_leases,
    enqueue,
    job,
    requeue,
    running_worker,
    settings,
    until_state,
)

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

SLOW = Backoff(base=timedelta(minutes=10), cap=timedelta(minutes=10))


async def failed_once(rows: "Rows", key: str) -> "asyncpg.Record":
    """The job's row when its first failure is recorded."""
    return await eventually(
        lambda: job(rows, key), lambda row: row["last_error"] is not None and row["lease_token"] is None
    )


async def test_a_permanent_error_parks_its_job_and_says_why(engine: AsyncEngine, rows: "Rows") -> None:
    handler = Scripted(each(lambda _job: PermanentError("NOT_FOUND: no such incident")))
    async with running_worker(engine, handler):
        await enqueue(engine, "a")
        await until_state(rows, "PARKED", "a")
    row = await job(rows, "a")
    assert (row["last_error"], row["attempts"]) == ("NOT_FOUND: no such incident", 1)
    assert handler.parked_jobs == [("a", "NOT_FOUND: no such incident")]
    assert handler.completed == []


async def test_a_requeued_dead_letter_is_tried_again_with_all_its_attempts(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    healed = False
    handler = Scripted(each(lambda _job: None if healed else PermanentError("no")))
    async with running_worker(engine, handler) as worker:
        await enqueue(engine, "a")
        await until_state(rows, "PARKED", "a")
        healed = True
        await requeue(engine, "a")
        worker.wake()
        await until_state(rows, "DONE", "a")


@pytest.mark.parametrize(
    "error",
    [
        OSError("network"),
        TimeoutError(),
        ValueError("odd"),
        RpcFailedError("UNAVAILABLE: x"),
        TypeError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_any_other_error_is_tried_again_until_it_works(
    engine: AsyncEngine, rows: "Rows", error: Exception
) -> None:
    attempts = 0

    def outcome(_job: Job) -> Exception | None:
        nonlocal attempts
        attempts += 1
        return error if attempts < 6 else None

    # The poll finds what is due again; with no backoff that is at once.
    async with running_worker(engine, Scripted(each(outcome)), settings(poll=timedelta(milliseconds=20))):
        await enqueue(engine, "a")
        await until_state(rows, "DONE", "a")
    row = await job(rows, "a")
    assert (row["attempts"], row["crashes"]) == (6, 0)


async def test_a_failed_job_waits_for_its_backoff(engine: AsyncEngine, rows: "Rows") -> None:
    handler = Scripted(each(lambda _job: OSError("network")))
    await enqueue(engine, range(60))
    async with running_worker(engine, handler, settings(backoff=SLOW)):
        await eventually(lambda: open_errors(rows), lambda count: count == 60)
    waits = [
        row["wait"]
        for row in await rows.fetch("SELECT next_attempt_time - now() AS wait FROM outbox ORDER BY wait")
    ]
    # Full jitter over ten minutes; that a whole half stays empty has a chance of 2^-59.
    assert all(wait <= timedelta(minutes=10) for wait in waits)
    assert waits[0] < timedelta(minutes=5) < waits[-1]
    assert len(handler.delivered) == 60


async def open_errors(rows: "Rows") -> int:
    count: int = await rows.fetchval(
        "SELECT count(*) FROM outbox WHERE last_error IS NOT NULL AND lease_token IS NULL"
    )
    return count


async def test_one_poison_job_in_a_batch_fails_alone(engine: AsyncEngine, rows: "Rows") -> None:
    handler = Scripted(each(lambda job: PermanentError("poison") if job.dedup_key == "3" else None))
    await enqueue(engine, range(6))
    async with running_worker(engine, handler):
        await until_state(rows, "DONE", 0, 1, 2, 4, 5)
        await until_state(rows, "PARKED", 3)
    assert len(handler.batches) == 1


class SpoilsTheTransaction(Scripted):
    """Completes with a statement that fails for one of the jobs."""

    async def complete(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        for done in jobs:
            number = "1/0" if done.dedup_key == "3" else "1"
            await transaction.connection.execute(text(f"SELECT {number}"))
        await super().complete(transaction, jobs)


async def test_one_job_whose_completion_fails_fails_alone(engine: AsyncEngine, rows: "Rows") -> None:
    handler = SpoilsTheTransaction()
    await enqueue(engine, range(6))
    async with running_worker(engine, handler, settings(backoff=SLOW)):
        await until_state(rows, "DONE", 0, 1, 2, 4, 5)
        row = await failed_once(rows, "3")
    assert row["state"] == "PENDING"
    assert "22012" in row["last_error"]
    assert "SELECT" not in row["last_error"]
    assert sorted(handler.completed) == ["0", "1", "2", "4", "5"]


async def test_an_exception_from_a_delivery_is_the_error_of_all_its_jobs(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    async def deliver(_jobs: Sequence[Job]) -> Sequence[Exception | None]:
        raise ConnectionResetError("reset by peer")

    await enqueue(engine, "ab")
    async with running_worker(engine, Scripted(deliver), settings(backoff=SLOW)):
        first, second = await failed_once(rows, "a"), await failed_once(rows, "b")
    assert first["last_error"] == second["last_error"] == "reset by peer"


async def test_a_permanent_error_raised_by_a_delivery_parks_all_its_jobs(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    async def deliver(_jobs: Sequence[Job]) -> Sequence[Exception | None]:
        raise PermanentError("none of them")

    await enqueue(engine, "ab")
    async with running_worker(engine, Scripted(deliver)):
        await until_state(rows, "PARKED", "a", "b")


async def test_a_delivery_that_takes_too_long_is_ended_and_tried_again(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    gate = Gate()
    topic = Topic("t", Scripted(gate), timeout=timedelta(milliseconds=50))
    async with running_worker(engine, [topic], settings(poll=timedelta(milliseconds=20))):
        await enqueue(engine, "a")
        row = await failed_once(rows, "a")
        assert row["last_error"] == "TimeoutError"
        gate.open.set()
        await until_state(rows, "DONE", "a")


@pytest.mark.parametrize("outcomes", [[], [None], [None, None, None]], ids=["none", "fewer", "more"])
async def test_a_delivery_that_answers_for_the_wrong_number_of_jobs_is_a_failure_of_all(
    engine: AsyncEngine, rows: "Rows", outcomes: list[None]
) -> None:
    async def deliver(_jobs: Sequence[Job]) -> Sequence[Exception | None]:
        return outcomes

    await enqueue(engine, "ab")
    async with running_worker(engine, Scripted(deliver), settings(backoff=SLOW)):
        for key in "ab":
            assert (await failed_once(rows, key))["state"] == "PENDING"


class CannotTell(Scripted):
    def skip_reason(self, job: Job) -> str | None:
        if job.dedup_key == "3":
            raise KeyError(job.dedup_key)
        return None


async def test_a_job_that_cannot_be_judged_fails_alone(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, range(6))
    async with running_worker(engine, CannotTell(), settings(backoff=SLOW)):
        await until_state(rows, "DONE", 0, 1, 2, 4, 5)
        assert (await failed_once(rows, "3"))["state"] == "PENDING"


@pytest.mark.parametrize(
    "unstorable", ["a\x00b", "a\ud800b", "x" * 100_000], ids=["NUL", "lone surrogate", "very long"]
)
async def test_an_error_whose_text_cannot_be_stored_as_it_is_is_a_failure_like_any_other(
    engine: AsyncEngine, rows: "Rows", unstorable: str
) -> None:
    handler = Scripted(each(lambda job: ValueError(unstorable if job.dedup_key == "a" else "plain")))
    await enqueue(engine, "ab")
    async with running_worker(engine, handler, settings(backoff=SLOW)):
        assert (await failed_once(rows, "b"))["last_error"] == "plain"
        assert (await failed_once(rows, "a"))["state"] == "PENDING"


async def test_an_error_keeps_no_password_and_no_statement(engine: AsyncEngine, rows: "Rows") -> None:
    handler = Scripted(each(lambda _job: OSError("cannot reach postgresql://app:hunter2@db/x")))
    await enqueue(engine, "a")
    async with running_worker(engine, handler, settings(backoff=SLOW)):
        row = await failed_once(rows, "a")
    assert "hunter2" not in row["last_error"]


class ParkingFails(Scripted):
    async def parked(self, transaction: Transaction, job: Job, reason: str) -> None:
        raise KeyError("no such incident")


@pytest.mark.parametrize("crashes", [0, 6], ids=["refused", "crashing"])
async def test_a_job_that_cannot_even_be_parked_stops_neither_the_worker_nor_the_others(
    engine: AsyncEngine, rows: "Rows", crashes: int
) -> None:
    handler = ParkingFails(each(lambda job: PermanentError("no") if job.dedup_key == "a" else None))
    await enqueue(engine, "a")
    for _ in range(crashes):
        await claim(engine)
        await end_leases(rows)
    async with running_worker(engine, handler, settings(max_crashes=3)):
        await enqueue(engine, "b")
        await until_state(rows, "DONE", "b")


async def test_a_bug_in_a_handler_is_logged_as_an_error_at_once(engine: AsyncEngine, rows: "Rows") -> None:
    def outcome(_job: Job) -> Exception | None:
        return TypeError("'NoneType' object is not iterable")

    with structlog.testing.capture_logs() as log:
        await enqueue(engine, "a")
        async with running_worker(engine, Scripted(each(outcome)), settings(backoff=SLOW)):
            await failed_once(rows, "a")
    levels = {line["event"]: line["log_level"] for line in log if line.get("topic") == "t"}
    assert levels == {"outbox_handler_bug": "error"}


async def test_a_delivery_cancelled_by_its_own_library_is_tried_again(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    """A gRPC call whose channel is closed ends in CancelledError, though the worker was not cancelled."""
    attempts = 0

    async def deliver(jobs: Sequence[Job]) -> Sequence[Exception | None]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise asyncio.CancelledError
        return [None] * len(jobs)

    await enqueue(engine, "a")
    async with running_worker(engine, Scripted(deliver), settings(poll=timedelta(milliseconds=20))):
        async with asyncio.timeout(10):
            await until_state(rows, "DONE", "a")


async def test_a_retry_does_not_wait_for_a_clock_that_was_set_back(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, ["back", "later"])
    await rows.execute(
        "UPDATE outbox SET next_attempt_time = now() + interval '3 hours' WHERE dedup_key = 'back'"
    )
    await rows.execute(
        "UPDATE outbox SET next_attempt_time = now() + interval '1 hour' WHERE dedup_key = 'later'"
    )
    async with running_worker(engine, Scripted()):
        await until_state(rows, "DONE", "back")
    assert (await job(rows, "later"))["state"] == "PENDING"
