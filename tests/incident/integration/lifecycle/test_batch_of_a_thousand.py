"""BatchResolve of a thousand items of every kind: a result for each, and each incident resolved once in effect."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.model import Effect
from tests.callers import Incidents
from tests.incident.incidents import HUMAN, NO_ACTION, effects_settled, new_id
from tests.rpc_errors import read_status, refused

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

Item = pb.BatchResolveRequest.Item
MALFORMED = (
    "",
    " ",
    "INC-1",
    "inc-20260507-99adf2",
    "INC-20260507-99ADFG",
    "APR-20260507-99ADF2",
    "a\0b",
    "x" * 300,
)


async def insert(rows: "Rows", state: str, number: int) -> list[str]:
    """Incidents in an unresolved state."""
    ids = [new_id() for _ in range(number)]
    await rows.execute(
        """
        INSERT INTO incidents
            (incident_id, title, description, severity, state, fingerprint, labels, source, opened_by, content_hash)
        SELECT unnest($1::text[]), 'one of many', '', 'LOW', $2, '', '{}', '', 'test', ''
        """,
        ids,
        state,
    )
    return ids


def outcome(result: pb.BatchResolveResponse.Result) -> tuple[Any, ...]:
    """A result in short."""
    if result.HasField("resolved"):
        resolved = result.resolved
        return resolved.already_resolved, resolved.resolution_type, resolved.resolution_number
    refusal = read_status(result.status)
    return refusal.code, refusal.fields


async def kept(rows: "Rows", ids: Sequence[str]) -> Mapping[str, Sequence[Any]]:
    """Everything that the database keeps of incidents, with the transactions that wrote it."""
    return {
        table: await rows.fetch(
            f"SELECT xmin::text, t::text FROM {table} AS t WHERE {of} = ANY ($1) ORDER BY 2",  # noqa: S608 - constants
            ids,
        )
        for table, of in {
            "incidents": "incident_id",
            "incident_events": "incident_id",
            "postmortems": "incident_id",
            "dispositions": "incident_id",
            "knowledge_uses": "incident_id",
            "outbox": "payload ->> 'incident_id'",
        }.items()
    }


async def test_each_of_a_thousand_items_has_its_own_result_and_its_effects_exactly_once(
    incidents: Incidents, rows: "Rows"
) -> None:
    unresolved = [*await insert(rows, "OPEN", 350), *await insert(rows, "INVESTIGATING", 150)]
    done = await insert(rows, "OPEN", 150)
    await incidents.batch_resolve([Item(incident_id=each, resolution_type=HUMAN) for each in done])
    await effects_settled(rows)
    done_before = await kept(rows, done)

    resolved_here = (False, NO_ACTION, 1)
    expected: list[tuple[Item, tuple[Any, ...]]] = [
        *((Item(incident_id=each, resolution_type=NO_ACTION), resolved_here) for each in unresolved),
        *((Item(incident_id=each, resolution_type=NO_ACTION), (True, HUMAN, 1)) for each in done),
        *(
            (Item(incident_id=new_id(), resolution_type=NO_ACTION), (grpc.StatusCode.NOT_FOUND, ()))
            for _ in range(100)
        ),
        *(
            (
                Item(incident_id=MALFORMED[number % len(MALFORMED)], resolution_type=NO_ACTION),
                (grpc.StatusCode.INVALID_ARGUMENT, ("incident_id",)),
            )
            for number in range(100)
        ),
        *(
            (Item(incident_id=each), (grpc.StatusCode.INVALID_ARGUMENT, ("resolution_type",)))
            for each in unresolved[:50]
        ),
    ]
    # Behind all the others, so that it is clear which of two comes first.
    random.Random(20260507).shuffle(expected)  # noqa: S311 - any order will do
    expected += [
        (Item(incident_id=each, resolution_type=HUMAN), (True, NO_ACTION, 1)) for each in unresolved[:100]
    ]
    assert len(expected) == 1000

    request: dict[str, Any] = {"items": [item for item, _ in expected]}
    results = await incidents.batch_resolve(**request)
    assert [outcome(result) for result in results] == [wanted for _, wanted in expected]
    assert [result.incident_id for result in results] == [
        "" if item.incident_id in MALFORMED else item.incident_id for item, _ in expected
    ]

    await effects_settled(rows)
    assert await kept(rows, done) == done_before
    once = await kept(rows, unresolved)
    assert len(once["incidents"]) == 500
    for table in ("postmortems", "dispositions", "knowledge_uses"):
        assert len(once[table]) == 500, table
    assert len(once["outbox"]) == 500 * len(Effect)
    events = await rows.fetch(
        "SELECT incident_id, type, attributes ->> 'effect' AS effect FROM incident_events WHERE incident_id = ANY ($1)",
        unresolved,
    )
    assert set(Counter(tuple(event) for event in events).values()) == {1}

    # The same call again, as after a lost reply: the same incidents, and nothing more is done.
    again = await incidents.batch_resolve(**request)
    assert [outcome(result) for result in again] == [
        (True, NO_ACTION, 1) if wanted == resolved_here else wanted for _, wanted in expected
    ]
    assert await kept(rows, unresolved) == once


@pytest.mark.parametrize("valid", [True, False], ids=["good items", "items that are none"])
async def test_a_batch_of_more_than_a_thousand_items_is_refused_as_a_whole(
    incidents: Incidents, rows: "Rows", valid: bool
) -> None:
    (incident_id,) = await insert(rows, "OPEN", 1)
    items = [Item(incident_id=incident_id, resolution_type=NO_ACTION)]
    items += [Item(incident_id=new_id(), resolution_type=NO_ACTION) if valid else Item()] * 1000
    refusal = await refused(incidents.batch_resolve(items))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("items",))
    state = await rows.fetchval("SELECT state FROM incidents WHERE incident_id = $1", incident_id)
    assert state == "OPEN"
