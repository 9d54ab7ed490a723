"""What a handler may say about a job besides done and failed: not wanted, not before, and what need not be done again."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.outbox.handler import DeliveryError, PermanentError
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction
from tests.servicekit.outbox_cases import (
    Scripted,
    each,
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

POLLING = settings(poll=timedelta(milliseconds=20))


class Choosy(Scripted):
    """Wants no key that begins with `x`, and writes down what it left out in the marking transaction."""

    def skip_reason(self, job: Job) -> str | None:
        return f"{job.dedup_key[:2]} is not wanted" if job.dedup_key.startswith("x") else None

    async def skipped(self, transaction: Transaction, jobs: Sequence[Job], reason: str) -> None:
        for left_out in jobs:
            await transaction.connection.execute(
                text("INSERT INTO counters (name, label, shard, value) VALUES ('left_out', :label, 0, 1)"),
                {"label": f"{left_out.dedup_key}: {reason}"},
            )


async def left_out(rows: "Rows") -> set[str]:
    return {row["label"] for row in await rows.fetch("SELECT label FROM counters WHERE name = 'left_out'")}


async def test_what_a_skip_means_is_written_with_its_mark(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, ["a", "x1", "x2", "b", "x1-too"])
    handler = Choosy()
    async with running_worker(engine, handler):
        await until_state(rows, "SKIPPED", "x1", "x2", "x1-too")
        await until_state(rows, "DONE", "a", "b")
    assert sorted(handler.delivered) == ["a", "b"]
    assert await left_out(rows) == {
        "x1: x1 is not wanted",
        "x2: x2 is not wanted",
        "x1-too: x1 is not wanted",
    }
    assert (await job(rows, "x1"))["last_error"] == "x1 is not wanted"


class FailsToSkip(Choosy):
    """Cannot write down the first time what it left out."""

    failures = 1

    async def skipped(self, transaction: Transaction, jobs: Sequence[Job], reason: str) -> None:
        await super().skipped(transaction, jobs, reason)
        if self.failures:
            self.failures -= 1
            raise ValueError("not now")


async def test_a_skip_that_cannot_be_written_down_is_tried_again(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, ["x1", "a"])
    # Not by the end of its lease, as if its holder had died.
    patient = settings(poll=timedelta(milliseconds=20))
    async with running_worker(engine, FailsToSkip(), patient):
        # The wanted one is not held up by it.
        await until_state(rows, "DONE", "a")
        await until_state(rows, "SKIPPED", "x1")
    assert await left_out(rows) == {"x1: x1 is not wanted"}
    assert (await job(rows, "x1"))["attempts"] == 2


def failing(error: type[DeliveryError] | type[PermanentError], progress: Mapping[str, Any]) -> Scripted:
    """Fails the first try of each job with this progress; the next one succeeds."""

    def outcome(job: Job) -> Exception | None:
        return None if progress.items() <= job.payload.items() else error("half done", progress=progress)

    return Scripted(each(outcome))


async def test_progress_is_in_the_payload_of_the_next_try(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, ["a"])
    async with running_worker(engine, failing(DeliveryError, {"sent": ["one"]}), POLLING):
        await until_state(rows, "DONE", "a")
    row = await job(rows, "a")
    assert row["payload"] == '{"key": "a", "sent": ["one"]}'
    assert row["attempts"] == 2


async def test_progress_outlives_parking(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, ["a"])
    async with running_worker(engine, failing(PermanentError, {"sent": ["one"]})) as worker:
        await until_state(rows, "PARKED", "a")
        row = await job(rows, "a")
        assert row["payload"] == '{"key": "a", "sent": ["one"]}'
        await requeue(engine, "a")
        worker.wake()
        await until_state(rows, "DONE", "a")


async def test_the_next_attempt_is_not_before_the_requested_time(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, ["later", "sooner"])

    def outcome(job: Job) -> Exception | None:
        wait = timedelta(seconds=90 if job.dedup_key == "later" else 0)
        return DeliveryError("busy", retry_after=wait) if job.attempts == 1 else None

    async with running_worker(engine, Scripted(each(outcome)), POLLING):
        await until_state(rows, "DONE", "sooner")
    row = await job(rows, "later")
    assert (row["state"], row["attempts"], row["last_error"]) == ("PENDING", 1, "busy")
    assert (
        0
        < await rows.fetchval(
            "SELECT extract(epoch FROM next_attempt_time - now()) FROM outbox WHERE dedup_key = 'later'"
        )
        <= 90
    )
