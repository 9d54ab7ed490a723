"""Retention: incidents resolved long ago are removed with all their rows, in small batches, and no others."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest
import pytest_asyncio

from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_pb
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.lifecycle import retention
from incident.model import Effect
from servicekit.database.engine import create_engine
from servicekit.outbox import dead_letters
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from servicekit.retention import Removal, remove_batch
from tests.audit_trail import records
from tests.callers import incidents_at
from tests.eventually import eventually
from tests.incident.incidents import HUMAN, NO_ACTION, OPEN, RESOLVED, effects_settled, new_id, token
from tests.rpc_errors import refused
from tests.services import healthy_service

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

KEEP = timedelta(days=30)
TABLES = (
    "incidents",
    "incident_events",
    "create_requests",
    "postmortems",
    "dispositions",
    "knowledge_uses",
    "outbox",
)


@pytest_asyncio.fixture
async def transactions(database: str) -> AsyncIterator[Transactions]:
    engine = create_engine(database, application_name="tests", pool_size=4)
    yield Transactions(engine, Outbox())
    await engine.dispose()


@pytest_asyncio.fixture
async def rows(database: str) -> "AsyncIterator[Rows]":
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def remove_old(transactions: Transactions, **options: Any) -> Removal:
    return await remove_batch(transactions, partial(retention.remove_old, **options))


async def insert_resolved(
    rows: "Rows", *, days_ago: float, resolutions: int = 1, state: str = "RESOLVED"
) -> str:
    """Insert an incident and every row of its resolutions; in another state, as it is after a reopening."""
    incident_id = new_id()
    done = state == "RESOLVED"
    await rows.execute(
        """
        INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source, opened_by,
            content_hash, create_time, last_progress_time, resolve_time, resolution_type, resolution_number)
        SELECT $1, 'old', '', 'LOW', $2, '', '{}', '', 'tester', '', ago, ago, CASE WHEN $3 THEN ago END,
            CASE WHEN $3 THEN 'HUMAN' END, $5
        FROM (SELECT now() - make_interval(secs => $4 * 86400)) AS old (ago)
        """,
        incident_id,
        state,
        done,
        days_ago,
        resolutions,
    )
    await rows.execute(
        "INSERT INTO create_requests (request_id, content_hash, incident_id, deduplicated) VALUES ($1, '', $1, false)",
        incident_id,
    )
    numbers = list(range(1, resolutions + 1))
    for statement in (
        """
        INSERT INTO incident_events (event_id, incident_id, type, actor, summary, resolution_number)
        SELECT $1 || '/' || number, $1, 'RESOLVED', 'tester', '', number FROM unnest($2::int[]) AS number
        """,
        """
        INSERT INTO postmortems (incident_id, resolution_number, resolution_type, markdown)
        SELECT $1, number, 'HUMAN', '' FROM unnest($2::int[]) AS number
        """,
        """
        INSERT INTO dispositions (incident_id, resolution_number, resolution_type, severity, resolve_time, resolution_seconds)
        SELECT $1, number, 'HUMAN', 'LOW', now(), 1 FROM unnest($2::int[]) AS number
        """,
        """
        INSERT INTO knowledge_uses (incident_id, resolution_number, knowledge_id, held)
        SELECT $1, number, 'known', true FROM unnest($2::int[]) AS number
        """,
    ):
        await rows.execute(statement, incident_id, numbers)
    await rows.execute(
        """
        INSERT INTO outbox (topic, dedup_key, payload, state, done_time)
        SELECT topic, $1 || '/' || number, jsonb_build_object('incident_id', $1::text, 'resolution_number', number),
            'DONE', now()
        FROM unnest($2::int[]) AS number, unnest($3::text[]) AS topic
        """,
        incident_id,
        numbers,
        [effect.topic for effect in Effect],
    )
    return incident_id


async def set_effect(rows: "Rows", incident_id: str, effect: Effect, state: str, *, number: int = 1) -> None:
    await rows.execute(
        "UPDATE outbox SET state = $1, done_time = NULL WHERE topic = $2 AND dedup_key = $3",
        state,
        effect.topic,
        f"{incident_id}/{number}",
    )


async def left(rows: "Rows") -> set[str]:
    return {row["incident_id"] for row in await rows.fetch("SELECT incident_id FROM incidents")}


async def counted(rows: "Rows") -> Mapping[str, int]:
    """How many rows each table has."""
    return {table: await rows.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}  # noqa: S608 - constants


async def test_a_removal_is_an_audit_record_with_the_ids_of_what_was_removed(
    transactions: Transactions, rows: "Rows", database: str
) -> None:
    old = {await insert_resolved(rows, days_ago=31) for _ in range(2)}
    await insert_resolved(rows, days_ago=29)
    await remove_old(transactions, keep=KEEP, limit=100)
    (found,) = await records(database)
    assert (found["operation"], found["actor"], found["method"]) == (
        "background/retention",
        "service:incident",
        "system",
    )
    assert set(found["targets"].split()) == old


async def test_old_resolved_incidents_are_removed_with_all_their_rows(
    transactions: Transactions, rows: "Rows"
) -> None:
    young = await insert_resolved(rows, days_ago=29)
    kept = await counted(rows)
    for resolutions in (1, 3):
        await insert_resolved(rows, days_ago=31, resolutions=resolutions)
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 2
    assert await left(rows) == {young}
    assert await counted(rows) == kept
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 0


@pytest.mark.parametrize(
    ("state", "days_ago"),
    [
        pytest.param("RESOLVED", 29.9, id="resolved a little less long ago"),
        pytest.param("OPEN", 1000.0, id="old and never worked on"),
        pytest.param("INVESTIGATING", 1000.0, id="old and being worked on"),
    ],
)
async def test_young_and_unresolved_incidents_stay(
    transactions: Transactions, rows: "Rows", state: str, days_ago: float
) -> None:
    incident_id = await insert_resolved(rows, days_ago=days_ago, state=state)
    before = await counted(rows)
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 0
    assert await left(rows) == {incident_id}
    assert await counted(rows) == before


@pytest.mark.parametrize("state", ["PENDING", "PARKED"])
@pytest.mark.parametrize("number", [1, 2])
async def test_an_incident_with_a_pending_or_parked_effect_stays(
    transactions: Transactions, rows: "Rows", state: str, number: int
) -> None:
    incident_id = await insert_resolved(rows, days_ago=31, resolutions=2)
    await set_effect(rows, incident_id, Effect.WEBHOOK, state, number=number)
    before = await counted(rows)
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 0
    assert await counted(rows) == before
    await set_effect(rows, incident_id, Effect.WEBHOOK, "DONE", number=number)
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 1
    assert set((await counted(rows)).values()) == {0}


async def test_a_batch_removes_the_oldest_incidents_first(transactions: Transactions, rows: "Rows") -> None:
    by_age = [await insert_resolved(rows, days_ago=60 - days) for days in range(7)]
    waiting = await insert_resolved(rows, days_ago=100)
    await set_effect(rows, waiting, Effect.POSTMORTEM, "PARKED")
    for expected in (3, 3, 1, 0):
        assert (await remove_old(transactions, keep=KEEP, limit=3)).removed == expected
        del by_age[:expected]
        assert await left(rows) == {*by_age, waiting}


async def test_a_batch_has_so_many_rows_and_a_larger_incident_is_removed_alone_at_last(
    transactions: Transactions, rows: "Rows"
) -> None:
    large = await insert_resolved(rows, days_ago=90)
    small = [await insert_resolved(rows, days_ago=days) for days in (60, 50, 40)]
    for incident_id, entries, requests in (
        (large, 50, 0),
        (small[0], 8, 0),
        (small[1], 0, 8),
        (small[2], 0, 8),
    ):
        await rows.execute(
            """
            INSERT INTO create_requests (request_id, content_hash, incident_id, deduplicated)
            SELECT $1 || '/more/' || number, '', $1, true FROM generate_series(1, $2::int) AS number
            """,
            incident_id,
            requests,
        )
        await rows.execute(
            """
            INSERT INTO incident_events (event_id, incident_id, type, actor, summary, resolution_number)
            SELECT $1 || '/more/' || number, $1, 'DEDUPLICATED', 'tester', '', 0
            FROM generate_series(1, $2::int) AS number
            """,
            incident_id,
            entries,
        )
    # Each of the small ones has ten rows: eight entries or requests, an entry of its resolution, and a request.
    for expected in ({large, small[2]}, {large}, set[str]()):
        removal = await remove_old(transactions, keep=KEEP, limit=100, max_rows=20)
        assert await left(rows) == expected
        # As long as there is more, the next batch does not wait for the next period.
        assert removal.has_more == bool(expected)
    assert set((await counted(rows)).values()) == {0}
    # Each batch is one record, of what it has removed.
    removed = await rows.fetch(
        "SELECT actor, method, outcome, targets FROM audit_records WHERE operation = 'background/retention'"
    )
    assert {tuple(each)[:3] for each in removed} == {("service:incident", "system", "CHANGED")}
    assert {frozenset(each["targets"].split()) for each in removed} == {
        frozenset(each) for each in ([large], [small[2]], small[:2])
    }


async def test_an_incident_locked_by_a_concurrent_reopening_is_skipped(
    transactions: Transactions, rows: "Rows"
) -> None:
    reopened = await insert_resolved(rows, days_ago=90)
    await insert_resolved(rows, days_ago=60)
    async with rows.transaction():
        await rows.execute(
            "UPDATE incidents SET state = 'OPEN', resolve_time = NULL, resolution_type = NULL WHERE incident_id = $1",
            reopened,
        )
        assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 1
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 0
    assert await left(rows) == {reopened}


async def test_concurrent_removals_are_disjoint(transactions: Transactions, rows: "Rows") -> None:
    for _ in range(20):
        await insert_resolved(rows, days_ago=31)
    removals = await asyncio.gather(*(remove_old(transactions, keep=KEEP, limit=10) for _ in range(4)))
    removed = sum(removal.removed for removal in removals)
    assert removed <= 20
    assert len(await left(rows)) == 20 - removed
    while (await remove_old(transactions, keep=KEEP, limit=10)).has_more:
        pass
    assert set((await counted(rows)).values()) == {0}


async def test_a_service_with_retention_removes_old_incidents_and_its_counters_do_not_fall(
    database: str, rows: "Rows"
) -> None:
    request_id, symptom = token(), token()
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        old = [await incidents.resolved(severity=severity) for severity in (1, 2, 2, 3)]
        old.append(await incidents.resolved(title=f"{symptom} down", request_id=request_id))
        await incidents.reopen(old[0].incident_id, reason="it came back")
        await incidents.resolve(old[0].incident_id, resolution_type=HUMAN)
        young, unresolved = await incidents.resolved(), await incidents.opened()
        await effects_settled(rows)
        await rows.execute(
            """
            UPDATE incidents SET resolve_time = resolve_time - interval '31 days', create_time = create_time - interval '31 days'
            WHERE incident_id = ANY ($1)
            """,
            [each.incident_id for each in old],
        )
        for _ in range(230):
            await insert_resolved(rows, days_ago=40)
        # This service would have removed incidents at its start; without a retention none is ever due.
        assert len(await left(rows)) == 230 + 7
        before = await incidents.stats()

    async with (
        healthy_service("incident", database, variables={"INCIDENT_RETENTION": "30d"}) as service,
        incidents_at(service.address) as incidents,
    ):
        expected = {young.incident_id, unresolved.incident_id}
        await eventually(lambda: left(rows), lambda found: found == expected)
        await service.logged("incidents_removed", incidents=35)
        batches = [event["incidents"] for event in service.events("incidents_removed")]
        assert batches == [100, 100, 35]
        assert totals(await incidents.stats()) == totals(before)
        of_removed = await rows.fetchval("SELECT count(*) FROM outbox WHERE state <> 'PENDING'")
        assert of_removed == len(Effect)
        # Knowledge stays; the incident is unknown, also to a retry of its Create.
        (match,) = (await incidents.search_knowledge(symptom).page()).matches
        assert match.entry.incident_id == old[-1].incident_id
        refusal = await refused(incidents.get(old[-1].incident_id))
        assert refusal.code is grpc.StatusCode.NOT_FOUND
        again = await incidents.report(title=f"{symptom} down", request_id=request_id)
        assert again.incident.incident_id != old[-1].incident_id


def totals(found: stats_pb.GetFlywheelStatsResponse) -> Sequence[Any]:
    """All counters of the contract, removed incidents included."""
    severities = {each.severity: each.count for each in found.incidents.opened_total}
    types = {each.resolution_type: each.count for each in found.resolutions.resolved_total}
    assert severities[incident_pb2.SEVERITY_HIGH] == 5
    assert (types[NO_ACTION], types[HUMAN]) == (6, 1)
    return [severities, types, found.resolutions.resolution_seconds]


async def test_removed_incidents_are_told_from_unknown_ones(
    transactions: Transactions, rows: "Rows", database: str
) -> None:
    removed = [await insert_resolved(rows, days_ago=31, resolutions=number) for number in (1, 3)]
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 2
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        items = [pb.LookupIncidentsRequest.Item(incident_id=each) for each in [*removed, new_id()]]
        first, second, unknown = await incidents.lookup_incidents(items)
        assert [(each.state, each.opening, each.removed) for each in (first, second)] == [
            (RESOLVED, 1, True),
            (RESOLVED, 3, True),
        ]
        assert (unknown.state, unknown.removed) == (incident_pb2.Incident.STATE_UNSPECIFIED, False)
        # An id that is given again is the new incident's, and is remembered again when that is removed.
        await incidents.opened(incident_id=removed[1])
        (again,) = await incidents.lookup_incidents(items[1:2])
        assert (again.state, again.opening, again.removed) == (OPEN, 1, False)
    await rows.execute(
        """
        UPDATE incidents SET state = 'RESOLVED', resolution_type = 'HUMAN', resolution_number = 1,
            resolve_time = now() - interval '31 days'
        """
    )
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 1
    assert (
        await rows.fetchval("SELECT openings FROM removed_incidents WHERE incident_id = $1", removed[1]) == 1
    )


async def test_a_late_resolve_of_a_removed_incident_is_acknowledged_and_writes_nothing(
    transactions: Transactions, rows: "Rows", database: str
) -> None:
    removed = await insert_resolved(rows, days_ago=31, resolutions=2)
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 1
    unknown = new_id()
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        late: dict[str, Any] = {"resolution_type": "NO_ACTION", "approval_id": "APR-20260507-99ADF2"}
        for etag in ("", "7"):
            response = await incidents.resolve(removed, **late, etag=etag)
            assert response.already_resolved
            assert response.incident == incident_pb2.Incident(
                incident_id=removed, state=RESOLVED, resolution_number=2, opening=2
            )
        await service.logged(
            "incident_resolve_skipped_already_resolved", incident_id=removed, removed_since=True
        )
        items = [
            pb.BatchResolveRequest.Item(incident_id=each, resolution_type=NO_ACTION)
            for each in (removed, unknown)
        ]
        first, second = await incidents.batch_resolve(items)
        assert (first.resolved.already_resolved, first.resolved.resolution_number) == (True, 2)
        assert second.status.code == grpc.StatusCode.NOT_FOUND.value[0]
        refusal = await refused(incidents.resolve(unknown, **late))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
        # Its timeline is gone: that is no place for a late event.
        refusal = await refused(incidents.add_event(removed, type="NOTE", summary="late"))
        assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert set((await counted(rows)).values()) == {0}


async def test_an_incident_with_a_dismissed_effect_is_removed(
    transactions: Transactions, rows: "Rows"
) -> None:
    incident_id = await insert_resolved(rows, days_ago=31)
    await set_effect(rows, incident_id, Effect.WEBHOOK, "PARKED")
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 0
    async with transactions.begin() as transaction:
        job = await dead_letters.get_by_key_for_update(
            transaction.connection, Effect.WEBHOOK.topic, f"{incident_id}/1"
        )
        assert job is not None
        await dead_letters.dismiss(transaction.connection, job, actor="alice", reason="over")
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 1
    assert set((await counted(rows)).values()) == {0}
