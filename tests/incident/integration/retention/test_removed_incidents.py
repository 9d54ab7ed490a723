"""Incidents that retention has removed, as callers see them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc

from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_pb
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.model import Effect
from servicekit.outbox.transaction import Transactions
from tests.callers import incidents_at
from tests.eventually import eventually
from tests.incident.incidents import HUMAN, NO_ACTION, OPEN, RESOLVED, effects_settled, new_id, token
from tests.incident.integration.retention.old_incidents import (
    KEEP,
    counted,
    insert_resolved,
    left,
    remove_old,
)
from tests.rpc_errors import refused
from tests.services import healthy_service

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]


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


async def test_removed_incidents_are_distinguished_from_unknown_ones(
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
