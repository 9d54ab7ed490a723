"""Counters at their maximum: no call fails for them with INTERNAL, and what can be counted no further stays at its end."""

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import grpc
import pytest

from tests.callers import Incidents
from tests.incident.incidents import OPEN, RESOLVED, effects_settled, token, version
from tests.incident.side_effects import EFFECTS, SideEffect, ended
from tests.rpc_errors import refused

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

MAX_INT = 2**31 - 1
MAX_BIGINT = 2**63 - 1
LAST_RESOLUTION = 2**31 - 2


async def put(rows: "Rows", incident_id: str, column: str, value: int) -> None:
    await rows.execute(
        f"UPDATE incidents SET {column} = $1 WHERE incident_id = $2",  # noqa: S608 - constants
        value,
        incident_id,
    )


async def test_a_full_occurrence_count_stays(incidents: Incidents, rows: "Rows") -> None:
    fingerprint = token()
    incident_id = (await incidents.opened(fingerprint=fingerprint)).incident_id
    await put(rows, incident_id, "occurrence_count", MAX_INT - 1)
    for _ in range(3):
        report = await incidents.report(fingerprint=fingerprint)
        assert (report.deduplicated, report.incident.occurrence_count) == (True, MAX_INT)


async def test_every_change_of_an_incident_with_a_full_version_succeeds(
    incidents: Incidents, rows: "Rows"
) -> None:
    fingerprint = token()
    incident_id = (await incidents.opened(fingerprint=fingerprint)).incident_id
    await put(rows, incident_id, "version", MAX_BIGINT)
    counted = (await incidents.report(fingerprint=fingerprint)).incident
    started = await incidents.start_investigation(incident_id, etag=counted.etag)
    await incidents.add_event(incident_id, type="APPROVED", summary="approved")
    found = await incidents.get(incident_id)
    resolved = (await incidents.resolve(incident_id, resolution_type="HUMAN", etag=found.etag)).incident
    assert resolved.state == RESOLVED
    reopened = await incidents.reopen(incident_id, reason="back", etag=resolved.etag)
    changes = (counted, started, found, resolved, reopened)
    assert {version(each) for each in changes} == {MAX_BIGINT}
    assert len({each.etag for each in changes}) == len(changes)
    await ended(incidents, incident_id)


@pytest.mark.parametrize("number", [LAST_RESOLUTION - 1, LAST_RESOLUTION, MAX_INT])
async def test_the_last_resolution_takes_effect_and_is_not_reopened(
    incidents: Incidents, rows: "Rows", number: int
) -> None:
    incident_id = (await incidents.opened()).incident_id
    await put(rows, incident_id, "resolution_number", number)
    opening = (await incidents.get(incident_id)).opening
    assert opening == min(number + 1, MAX_INT)
    response = await incidents.resolve(incident_id, resolution_type="HUMAN", opening=opening)
    assert not response.already_resolved
    assert (response.incident.resolution_number, response.incident.opening) == (
        LAST_RESOLUTION,
        LAST_RESOLUTION,
    )
    effects = await ended(incidents, incident_id, number=LAST_RESOLUTION)
    assert set(effects) == set(EFFECTS)
    assert SideEffect.STATE_PENDING not in {effect.state for effect in effects.values()}
    assert (await incidents.get_postmortem(incident_id)).resolution_number == LAST_RESOLUTION
    refusal = await refused(incidents.reopen(incident_id, reason="back"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RESOLUTIONS_EXHAUSTED")
    assert (await incidents.resolve(incident_id, resolution_type="HUMAN", opening=opening)).already_resolved


async def test_a_resolve_that_knows_no_opening_does_not_search_two_billion_resolutions(
    incidents: Incidents, rows: "Rows"
) -> None:
    approval_id = "APR-20260507-99ADF2"
    incident_id = (await incidents.opened()).incident_id
    await put(rows, incident_id, "resolution_number", LAST_RESOLUTION - 2)
    first = await incidents.resolve(incident_id, resolution_type="NO_ACTION", approval_id=approval_id)
    assert first.incident.resolution_number == LAST_RESOLUTION - 1
    await incidents.reopen(incident_id, reason="back")
    again = await incidents.resolve(incident_id, resolution_type="NO_ACTION", approval_id=approval_id)
    assert (again.already_resolved, again.incident.state) == (True, OPEN)


async def test_full_attempts_of_a_side_effect_stay_and_it_is_done(incidents: Incidents, rows: "Rows") -> None:
    await effects_settled(rows)
    # The next job is enqueued with full attempts, as if it had been claimed so often.
    await rows.execute("""
        CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN NEW.attempts := 2147483647; NEW.lease_token := NULL; NEW.next_attempt_time := now(); RETURN NEW; END $$;
        CREATE TRIGGER fill BEFORE INSERT ON outbox FOR EACH ROW WHEN (NEW.topic = 'effect.knowledge') EXECUTE FUNCTION fill();
    """)
    try:
        incident_id = (await incidents.resolved()).incident_id
    finally:
        await rows.execute("DROP TRIGGER fill ON outbox; DROP FUNCTION fill")
    effects = await ended(incidents, incident_id)
    knowledge = effects[SideEffect.EFFECT_KNOWLEDGE]
    assert (knowledge.state, knowledge.attempts) == (SideEffect.STATE_DONE, MAX_INT)


async def test_full_uses_of_an_entry_of_knowledge_stay(incidents: Incidents, rows: "Rows") -> None:
    word = f"w{token()}"
    for _ in range(3):
        incident = await incidents.resolved(title=f"{word} down")
        await ended(incidents, incident.incident_id)
        await rows.execute(
            "UPDATE knowledge SET use_count = $1, success_count = $1 WHERE symptoms LIKE $2",
            MAX_INT,
            f"%{word}%",
        )
    (match,) = (await incidents.search_knowledge(word).page()).matches
    assert (match.entry.use_count, match.entry.success_count) == (MAX_INT, MAX_INT)


async def test_an_event_with_the_last_sequence_is_listed_and_others_are_added(
    incidents: Incidents, rows: "Rows"
) -> None:
    incident_id = (await incidents.opened()).incident_id
    await rows.execute(
        """
        INSERT INTO incident_events (event_id, incident_id, type, actor, summary, resolution_number, sequence)
        OVERRIDING SYSTEM VALUE VALUES ($1, $2, 'NOTE', 'operator', 'the last', 0, $3)
        """,
        token(),
        incident_id,
        MAX_BIGINT,
    )
    await incidents.add_event(incident_id, type="NOTE", summary="one more")
    pages = [page async for page in incidents.list_events(incident_id, page_size=1).pages()]
    found = [event.summary for page in pages for event in page.events]
    assert sorted(found[1:]) == ["one more", "the last"]


async def test_an_exhausted_sequence_is_no_internal_error(incidents: Incidents, rows: "Rows") -> None:
    incident = await incidents.opened()
    sequence = await rows.fetchval("SELECT pg_get_serial_sequence('incident_events', 'sequence')")
    value = await rows.fetchval(f"SELECT last_value FROM {sequence}")  # noqa: S608 - a name of the catalogue
    await rows.execute("SELECT setval($1::text::regclass, $2)", sequence, MAX_BIGINT)
    try:
        refusals = await asyncio.gather(
            refused(incidents.opened()),
            refused(incidents.resolve(incident.incident_id, resolution_type="HUMAN")),
            refused(incidents.add_event(incident.incident_id, type="NOTE", summary="one more")),
        )
    finally:
        await rows.execute("SELECT setval($1::text::regclass, $2)", sequence, value)
    assert {(each.code, each.reason) for each in refusals} == {
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "COUNTER_FULL")
    }
    assert (await incidents.get(incident.incident_id)) == incident


@pytest.mark.parametrize("shards", [1, 64])
async def test_full_totals_stay_and_the_stats_are_read(
    incidents: Incidents, rows: "Rows", shards: int
) -> None:
    await effects_settled(rows)
    await rows.execute(
        """
        INSERT INTO counters (name, label, shard, value)
        SELECT name, label, shard, $1 FROM generate_series(0, $2 - 1) AS shard, (VALUES
            ('incidents_opened', 'HIGH'), ('incidents_resolved', 'NO_ACTION'), ('resolution_seconds_bucket', '60'),
            ('resolution_seconds_bucket', 'inf'), ('resolution_milliseconds_sum', '')) AS counter (name, label)
        ON CONFLICT (name, label, shard) DO UPDATE SET value = excluded.value
        """,
        MAX_BIGINT,
        shards,
    )
    try:
        incident = await incidents.resolved()
        await ended(incidents, incident.incident_id)
        stats = await incidents.stats("FULL")
        opened = {each.severity: each.count for each in stats.incidents.opened_total}
        assert opened[incident.severity] == MAX_BIGINT
        histogram = stats.resolutions.resolution_seconds
        assert (histogram.count, histogram.buckets[-1].cumulative_count) == (MAX_BIGINT, MAX_BIGINT)
        # Also the shard of this process was raised.
        assert await rows.fetchval("SELECT max(value) FROM counters") == MAX_BIGINT
    finally:
        await rows.execute("TRUNCATE counters")
