"""BatchResolve: each item by itself, in order."""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import grpc
import pytest

from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.model import Effect
from tests.callers import Incidents, incidents_at
from tests.incident.incidents import HUMAN, NO_ACTION, RESOLVED, UNKNOWN_ID
from tests.rpc_errors import read_status, refused
from tests.services import RunningService, healthy_service

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

Item = pb.BatchResolveRequest.Item


def batch(*items: Item | str) -> list[Item]:
    """Items; an id alone is resolved as NO_ACTION."""
    return [
        Item(incident_id=item, resolution_type=NO_ACTION) if isinstance(item, str) else item for item in items
    ]


async def test_each_item_is_resolved_with_its_own_content(service: RunningService) -> None:
    async with incidents_at(service.address, actor="batcher") as incidents:
        one, two = (await incidents.opened()).incident_id, (await incidents.opened()).incident_id
        results = await incidents.batch_resolve(
            batch(Item(incident_id=one, resolution_type=HUMAN, note="by hand"), two)
        )
        assert [result.incident_id for result in results] == [one, two]
        first = await incidents.get(one)
        assert (first.state, first.resolution_type, first.resolution_note, first.resolved_by) == (
            RESOLVED,
            HUMAN,
            "by hand",
            "batcher",
        )
        result = results[0].resolved
        assert not result.already_resolved
        assert (result.resolution_type, result.resolve_time, result.resolution_number, result.etag) == (
            HUMAN,
            first.resolve_time,
            1,
            first.etag,
        )
        assert results[1].resolved.resolution_type == NO_ACTION


async def test_invalid_items_fail_alone_and_results_keep_the_order(incidents: Incidents) -> None:
    fresh, done = (await incidents.opened()).incident_id, await incidents.resolved()
    results = await incidents.batch_resolve(
        batch(
            "nonsense",
            fresh,
            UNKNOWN_ID,
            Item(incident_id=done.incident_id, resolution_type=HUMAN),
            Item(incident_id=fresh),
            Item(incident_id=fresh, resolution_type=99),  # type: ignore[arg-type]  # no such type
            Item(incident_id=fresh, resolution_type=HUMAN, note="a\0b"),
            Item(resolution_type=HUMAN),
            Item(incident_id=fresh, resolution_type=HUMAN, note="x" * 8193),
            fresh,
        )
    )
    assert [result.incident_id for result in results] == [
        "",
        fresh,
        UNKNOWN_ID,
        done.incident_id,
        fresh,
        fresh,
        fresh,
        "",
        fresh,
        fresh,
    ]
    bad = {
        place: read_status(result.status) for place, result in enumerate(results) if result.HasField("status")
    }
    assert {place: (refusal.code, refusal.fields) for place, refusal in bad.items()} == {
        0: (grpc.StatusCode.INVALID_ARGUMENT, ("incident_id",)),
        2: (grpc.StatusCode.NOT_FOUND, ()),
        4: (grpc.StatusCode.INVALID_ARGUMENT, ("resolution_type",)),
        5: (grpc.StatusCode.INVALID_ARGUMENT, ("resolution_type",)),
        6: (grpc.StatusCode.INVALID_ARGUMENT, ("note",)),
        7: (grpc.StatusCode.INVALID_ARGUMENT, ("incident_id",)),
        8: (grpc.StatusCode.INVALID_ARGUMENT, ("note",)),
    }
    assert bad[2].resource == ("awoooi.incident.v1.Incident", UNKNOWN_ID)
    assert not results[1].resolved.already_resolved
    assert results[3].resolved.already_resolved
    assert results[3].resolved.resolution_type == NO_ACTION
    assert results[3].resolved.etag == done.etag
    assert results[9].resolved.already_resolved


async def test_of_two_items_for_one_incident_the_first_resolves_it(incidents: Incidents) -> None:
    incident_id = (await incidents.opened()).incident_id
    results = await incidents.batch_resolve(
        batch(
            Item(incident_id=incident_id, resolution_type=HUMAN, note="first"),
            Item(incident_id=incident_id, resolution_type=NO_ACTION, note="second"),
            incident_id,
        )
    )
    assert [result.resolved.already_resolved for result in results] == [False, True, True]
    assert {result.resolved.resolution_type for result in results} == {HUMAN}
    assert (await incidents.get(incident_id)).resolution_note == "first"
    assert (await incidents.event_types(incident_id)).count("RESOLVED") == 1


@pytest.mark.parametrize("items", [0, 1001])
async def test_no_item_or_more_than_a_thousand_are_refused(incidents: Incidents, items: int) -> None:
    refusal = await refused(incidents.batch_resolve(batch(*[UNKNOWN_ID] * items)))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("items",))


async def test_a_thousand_items_are_resolved_in_one_call(incidents: Incidents, rows: "Rows") -> None:
    ids = [f"INC-20260101-{number:08X}" for number in range(1000)]
    await rows.execute(
        """
        INSERT INTO incidents
            (incident_id, title, description, severity, state, fingerprint, labels, source, opened_by, content_hash)
        SELECT unnest($1::text[]), 'many', '', 'LOW', 'OPEN', '', '{}', '', 'test', ''
        """,
        ids,
    )
    results = await incidents.batch_resolve(batch(*ids))
    assert [result.incident_id for result in results] == ids
    assert not any(result.resolved.already_resolved for result in results)
    assert all(result.resolved.resolution_number == 1 for result in results)
    jobs = await rows.fetch(
        "SELECT topic, count(*) AS jobs FROM outbox WHERE payload->>'incident_id' = ANY ($1) GROUP BY topic",
        ids,
    )
    assert {row["topic"]: row["jobs"] for row in jobs} == {effect.topic: 1000 for effect in Effect}


async def test_concurrent_batches_and_resolves_of_the_same_incidents_resolve_each_once(
    service: RunningService, rows: "Rows"
) -> None:
    async with incidents_at(service.address) as one, incidents_at(service.address) as two:
        ids = [(await one.opened()).incident_id for _ in range(30)]
        batches = await asyncio.gather(
            one.batch_resolve(batch(*ids)),
            two.batch_resolve(batch(*reversed(ids))),
            *(two.batch_resolve(batch(*ids[start:], *ids[:start])) for start in (7, 13, 22)),
        )
        singles = await asyncio.gather(*(one.resolve(i, resolution_type=HUMAN) for i in ids))
    winners = Counter(
        result.incident_id
        for results in batches
        for result in results
        if not result.resolved.already_resolved
    )
    assert winners == dict.fromkeys(ids, 1)
    assert all(answer.already_resolved for answer in singles)
    events = "SELECT count(*) FROM incident_events WHERE incident_id = ANY ($1) AND type = 'RESOLVED'"
    assert await rows.fetchval(events, ids) == 30


async def test_a_batch_logs_the_same_events_as_a_resolve(database: str) -> None:
    # A process of its own: the events of other batches are so many that they are sampled.
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        done, unknown = (await incidents.resolved()).incident_id, "INC-20200101-00000000BEEF"
        await incidents.batch_resolve(batch(done, unknown))
        await service.logged("incident_resolve_skipped_already_resolved", incident_id=done)
        await service.logged("incident_not_found_for_resolve", incident_id=unknown)
