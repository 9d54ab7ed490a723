"""Jobs as an operator sees them: listed, re-queued and counted."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from servicekit.outbox import dead_letters, jobs, open_jobs, queue
from servicekit.outbox.dead_letters import JobEndedError, JobNotParkedError
from servicekit.outbox.jobs import JobState
from servicekit.outbox.queue import Failure
from tests.explained import rows_read
from tests.servicekit.outbox_cases import claim, end_leases, enqueue, job

if TYPE_CHECKING:
    from tests.servicekit.outbox_cases import Rows


async def park(engine: AsyncEngine, key: str, topic: str = "t") -> None:
    """Claim the one due job of a topic and dead-letter it."""
    ((mine,), _) = await claim(engine, topic=topic)
    assert mine.dedup_key == key
    async with engine.begin() as connection:
        await queue.mark_failed(connection, [Failure(mine, "no use", None)])


async def test_a_requeued_dead_letter_is_due_now_and_can_be_claimed(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "a")
    await park(engine, "a")
    await rows.execute("UPDATE outbox SET crashes = 3")
    async with engine.begin() as connection:
        parked = await dead_letters.get_by_key_for_update(connection, "t", "a")
        assert parked is not None
        assert (parked.state, parked.last_error) == (JobState.PARKED, "no use")
        pending = await dead_letters.requeue(connection, parked, actor="alice")
    assert (pending.state, pending.job_id) == (JobState.PENDING, parked.job_id)
    assert (await job(rows, "a"))["crashes"] == 0
    assert [each.dedup_key for each in (await claim(engine))[0]] == ["a"]


async def test_requeue_is_idempotent(engine: AsyncEngine) -> None:
    await enqueue(engine, "a")
    await park(engine, "a")
    async with engine.begin() as connection:
        parked = await dead_letters.get_by_key_for_update(connection, "t", "a")
        assert parked is not None
        first = await dead_letters.requeue(connection, parked, actor="alice")
        assert await dead_letters.requeue(connection, first, actor="bob") == first


async def test_a_pending_job_keeps_its_lease_when_it_is_requeued(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, "a")
    ((mine,), _) = await claim(engine)
    async with engine.begin() as connection:
        found = await dead_letters.get_by_id_for_update(connection, mine.job_id)
        assert found is not None
        await dead_letters.requeue(connection, found, actor="alice")
    assert (await job(rows, "a"))["lease_token"] == mine.lease_token


@pytest.mark.parametrize(("reason", "state"), [(None, JobState.DONE), ("unwanted", JobState.SKIPPED)])
async def test_an_ended_job_is_not_requeued(engine: AsyncEngine, reason: str | None, state: JobState) -> None:
    await enqueue(engine, "a")
    mine, _ = await claim(engine)
    async with engine.begin() as connection:
        await queue.mark_done(connection, mine, skip_reason=reason)
        found = await dead_letters.get_by_key_for_update(connection, "t", "a")
        assert found is not None
        with pytest.raises(JobEndedError) as caught:
            await dead_letters.requeue(connection, found, actor="alice")
    assert caught.value.state is state


async def test_dead_letters_are_requeued_in_bulk_longest_parked_first(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "abcd", "one")
    await enqueue(engine, "ab", "two")
    await rows.execute("UPDATE outbox SET state = 'PARKED' WHERE dedup_key <> 'd'")
    # Parked again after it was re-queued.
    await rows.execute("UPDATE outbox SET next_attempt_time = now() + interval '1 s' WHERE dedup_key = 'a'")

    async def requeued(topics: list[str] | None) -> list[str]:
        async with engine.begin() as connection:
            found = await dead_letters.requeue_parked(connection, topics, actor="alice", limit=2)
        assert {(each.state, each.requeued_by) for each in found} <= {(JobState.PENDING, "alice")}
        return [f"{each.topic}/{each.dedup_key}" for each in found]

    assert await requeued(["one"]) == ["one/b", "one/c"]
    assert await requeued(["one"]) == ["one/a"]
    assert await requeued(["one"]) == []
    assert await requeued(None) == ["two/b", "two/a"]


async def test_concurrent_bulk_requeues_take_different_dead_letters(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "abcd")
    await rows.execute("UPDATE outbox SET state = 'PARKED'")
    async with engine.begin() as one, engine.begin() as two:
        first = await dead_letters.requeue_parked(one, ["t"], actor="alice", limit=3)
        second = await dead_letters.requeue_parked(two, ["t"], actor="bob", limit=3)
    assert [each.dedup_key for each in [*first, *second]] == ["a", "b", "c", "d"]


async def test_a_dismissed_dead_letter_is_on_record_for_good_and_no_longer_open(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "a")
    await park(engine, "a")
    async with engine.begin() as connection:
        parked = await dead_letters.get_by_key_for_update(connection, "t", "a")
        assert parked is not None
        dismissed = await dead_letters.dismiss(connection, parked, actor="alice", reason="it is gone")
        assert await open_jobs.count_open(connection) == []
        with pytest.raises(JobNotParkedError):
            await dead_letters.dismiss(connection, dismissed, actor="bob", reason="again")
    assert (dismissed.state, dismissed.last_error, dismissed.done_time) == (
        JobState.DISMISSED,
        "no use",
        None,
    )
    assert dismissed.dismissal is not None
    assert (dismissed.dismissal.actor, dismissed.dismissal.reason) == ("alice", "it is gone")
    await rows.execute("UPDATE outbox SET done_time = now() - interval '1 year'")
    async with engine.begin() as connection:
        assert await queue.remove_done(connection, ["t"], older_than=timedelta(days=1), limit=9) == 0
        assert len(await jobs.list_jobs(connection, ["t"], states=["DISMISSED"], limit=9)) == 1
        assert await jobs.list_jobs(connection, ["t"], states=["DONE"], limit=9) == []
        # Also of a topic that is not requested.
        assert len(await jobs.list_jobs(connection, [], dead_letters=True, limit=9)) == 1
        assert await jobs.list_jobs(connection, [], limit=9) == []


async def test_topics_are_those_that_have_more_than_done_jobs(engine: AsyncEngine, rows: "Rows") -> None:
    for topic in ("pending", "parked", "dismissed", "done"):
        await enqueue(engine, "ab", topic)
    await rows.execute("UPDATE outbox SET state = 'PARKED' WHERE topic = 'parked'")
    await rows.execute("UPDATE outbox SET state = 'DONE' WHERE topic IN ('done', 'dismissed')")
    await rows.execute("UPDATE outbox SET dismissed_by = 'alice' WHERE topic = 'dismissed'")
    async with engine.connect() as connection:
        assert sorted(await open_jobs.list_topics(connection)) == ["dismissed", "parked", "pending"]


async def test_a_payload_of_another_version_is_read_as_far_as_it_is_text(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "ab")
    await rows.execute("UPDATE outbox SET payload = '[1]' WHERE dedup_key = 'a'")
    await rows.execute("""UPDATE outbox SET payload = '{"a": {"b": "text"}, "n": 7}' WHERE dedup_key = 'b'""")
    async with engine.connect() as connection:
        readable, unreadable = await jobs.list_jobs(connection, ["t"], limit=9)
    assert [readable.text(*names) for names in (("a", "b"), ("a",), ("n",), ("n", "b"), ("x", "y"))] == [
        "text",
        "",
        "",
        "",
        "",
    ]
    assert (unreadable.payload, unreadable.text("a", "b")) == ({}, "")


async def test_a_job_that_is_no_dead_letter_is_not_dismissed(engine: AsyncEngine) -> None:
    await enqueue(engine, "a")
    async with engine.begin() as connection:
        found = await dead_letters.get_by_key_for_update(connection, "t", "a")
        assert found is not None
        with pytest.raises(JobNotParkedError):
            await dead_letters.dismiss(connection, found, actor="alice", reason="")


async def test_a_job_is_found_by_its_id_or_in_its_own_topic_by_its_key(engine: AsyncEngine) -> None:
    (one,) = await enqueue(engine, "a", "one")
    async with engine.begin() as connection:
        assert await dead_letters.get_by_key_for_update(connection, "two", "a") is None
        assert await dead_letters.get_by_id_for_update(connection, one.job_id + 1) is None
        found = await dead_letters.get_by_id_for_update(connection, one.job_id)
    assert found is not None
    assert (found.topic, found.dedup_key, found.last_error, found.done_time) == ("one", "a", "", None)


async def test_a_list_is_newest_first_and_its_filters_and_pages_hold(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "abcd", "one")
    await enqueue(engine, "ab", "two")
    await enqueue(engine, "a", "three")
    await rows.execute("UPDATE outbox SET state = 'PARKED' WHERE topic = 'one' AND dedup_key = 'b'")
    async with engine.connect() as connection:

        async def listed(topics: list[str], **narrowing: object) -> list[str]:
            found = await jobs.list_jobs(connection, topics, **{"limit": 10, **narrowing})  # type: ignore[arg-type]  # each test's own
            return [f"{each.topic}/{each.dedup_key}" for each in found]

        assert await listed(["one"]) == ["one/d", "one/c", "one/b", "one/a"]
        assert await listed(["two", "one"], limit=3) == ["two/b", "two/a", "one/d"]
        assert await listed(["one"], states=["PARKED", "DONE"]) == ["one/b"]
        assert await listed(
            ["one", "two"], keys=[("one", "a"), ("one", "d"), ("two", "x"), ("three", "a")]
        ) == [
            "one/d",
            "one/a",
        ]
        assert await listed(["one", "two"], keys=[]) == []
        assert await listed(["two"], dead_letters=True) == ["two/b", "two/a", "one/b"]
        assert await listed(["two"], dead_letters=True, states=["PARKED"]) == ["one/b"]
        assert await listed(["one"], prefix=("one", "b")) == ["one/b"]
        assert await listed(["two"], prefix=("one", "a")) == []
        assert await listed([], dead_letters=True, keys=[("one", "a"), ("one", "b")]) == ["one/b"]
        (second, *_) = await jobs.list_jobs(connection, ["one"], states=["PARKED"], limit=1)
        assert await listed(["one"], before=second.job_id) == ["one/a"]
        assert await listed(["one"], before=second.job_id, keys=[("one", "a"), ("one", "b")]) == ["one/a"]


async def test_open_jobs_are_listed_dead_letters_first_then_the_oldest(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "abcd")
    await rows.execute("UPDATE outbox SET state = 'PARKED' WHERE dedup_key IN ('b', 'd')")
    await rows.execute("UPDATE outbox SET state = 'DONE' WHERE dedup_key = 'c'")
    await rows.execute("UPDATE outbox SET create_time = now() - interval '1 h' WHERE dedup_key = 'd'")
    async with engine.connect() as connection:
        assert [each.dedup_key for each in await open_jobs.list_open(connection, ["t"], limit=9)] == [
            "d",
            "b",
            "a",
        ]
        assert [each.dedup_key for each in await open_jobs.list_open(connection, limit=1)] == ["d"]
        assert await open_jobs.list_open(connection, ["other"], limit=9) == []


async def test_only_ended_jobs_are_removed_by_key(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, "abcd")
    await rows.execute("UPDATE outbox SET state = 'PARKED' WHERE dedup_key = 'b'")
    await rows.execute("UPDATE outbox SET state = 'DONE' WHERE dedup_key IN ('c', 'd')")
    async with engine.begin() as connection:
        await jobs.remove_ended(connection, "t", ["a", "b", "c"])
    assert {row["dedup_key"] for row in await rows.fetch("SELECT dedup_key FROM outbox")} == {"a", "b", "d"}
    await end_leases(rows)
    assert len(await enqueue(engine, "c")) == 1


async def test_open_jobs_are_counted_by_topic_and_state_with_the_age_of_the_oldest(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "abcd", "one")
    await enqueue(engine, "a", "two")
    await rows.execute("UPDATE outbox SET state = 'PARKED' WHERE topic = 'one' AND dedup_key = 'a'")
    await rows.execute("UPDATE outbox SET state = 'DONE' WHERE topic = 'one' AND dedup_key = 'b'")
    await rows.execute("UPDATE outbox SET create_time = now() - interval '100 s' WHERE dedup_key = 'c'")
    async with engine.connect() as connection:
        found = {(row.topic, row.state): row for row in await open_jobs.count_open(connection)}
    assert {key: row.count for key, row in found.items()} == {
        ("one", "PARKED"): 1,
        ("one", "PENDING"): 2,
        ("two", "PENDING"): 1,
    }
    assert 100 <= found["one", "PENDING"].oldest_seconds < 1000
    assert found["one", "PARKED"].oldest_seconds < 100


async def test_without_jobs_nothing_is_open(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        assert await open_jobs.count_open(connection) == []


async def test_the_age_of_a_job_from_the_future_is_not_negative(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, "a")
    await rows.execute("UPDATE outbox SET create_time = now() + interval '1 hour'")
    async with engine.connect() as connection:
        ((found),) = await open_jobs.count_open(connection)
    assert found.oldest_seconds == 0


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.PARKED])
async def test_listing_the_jobs_of_an_open_state_does_not_walk_the_history(
    engine: AsyncEngine, rows: "Rows", state: JobState
) -> None:
    async def read(connection: AsyncConnection) -> object:
        return await jobs.list_jobs(connection, ["t"], states=[state], limit=10)

    # The open one is the oldest: newest first, all the others come before it.
    await rows.execute(_STORE, state, 1, 1)
    await rows.execute(_STORE, "DONE", 2, 2000)
    await rows.execute("ANALYZE outbox")

    assert sum((await rows_read(engine, read)).values()) <= 2


_STORE = """
    INSERT INTO outbox (topic, dedup_key, payload, state, next_attempt_time, done_time)
    SELECT 't', number::text, '{}', $1::text, now(), CASE WHEN $1::text = 'DONE' THEN now() END
    FROM generate_series($2::int, $3::int) AS number
"""
