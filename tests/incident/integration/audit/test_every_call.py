"""Every call that changes an incident is one audit record, written in the transaction of the change."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest
import pytest_asyncio

from awoooi.flywheel.v1 import flywheel_stats_service_pb2
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.audited import READING, TARGETS
from incident.model import CANARY_LABEL, Effect
from tests.audit_trail import digest, problems, record, records
from tests.callers import Incidents, caller
from tests.incident.incidents import HUMAN, UNKNOWN_ID, effects_settled, token
from tests.incident.wire import create_request
from tests.rpc_errors import refused
from tests.services import RunningService

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Rows = asyncpg.Connection[asyncpg.Record]

SERVICE = "awoooi.incident.v1.IncidentService"
WEBHOOK = incident_pb2.SideEffect.EFFECT_WEBHOOK
ALICE = caller("alice")


@dataclass(frozen=True)
class World:
    """What a call is prepared with."""

    incidents: Incidents
    rows: "Rows"

    async def parked(self) -> str:
        """A resolved incident with one dead letter."""
        incident = await self.incidents.resolved()
        # Of an effect that no worker runs here: what is re-queued stays as it is.
        await self.rows.execute(
            "UPDATE outbox SET state = 'PARKED', done_time = NULL WHERE topic = $2 AND payload ->> 'incident_id' = $1",
            incident.incident_id,
            Effect.WEBHOOK.topic,
        )
        return incident.incident_id


@pytest_asyncio.fixture
async def world(incidents: Incidents, rows: "Rows") -> AsyncIterator[World]:
    yield World(incidents, rows)


async def _create(_world: World) -> tuple[Any, str]:
    return create_request(title=token()), ""


async def _start(world: World) -> tuple[Any, str]:
    incident_id = await world.incidents.opened_id()
    return pb.StartInvestigationRequest(incident_id=incident_id), incident_id


async def _resolve(world: World) -> tuple[Any, str]:
    incident_id = await world.incidents.opened_id()
    return pb.ResolveRequest(incident_id=incident_id, resolution_type=HUMAN), incident_id


async def _batch(world: World) -> tuple[Any, str]:
    incident_id = await world.incidents.opened_id()
    items = [
        pb.BatchResolveRequest.Item(incident_id=each, resolution_type=HUMAN)
        for each in (incident_id, UNKNOWN_ID)
    ]
    return pb.BatchResolveRequest(items=items), incident_id


async def _reopen(world: World) -> tuple[Any, str]:
    incident_id = (await world.incidents.resolved()).incident_id
    return pb.ReopenRequest(incident_id=incident_id, reason="it came back"), incident_id


async def _remove_canary(world: World) -> tuple[Any, str]:
    incident_id = (await world.incidents.resolved(labels={CANARY_LABEL: "true"})).incident_id
    await effects_settled(world.rows)
    return pb.RemoveCanaryRequest(incident_id=incident_id), incident_id


async def _add_event(world: World) -> tuple[Any, str]:
    incident_id = await world.incidents.opened_id()
    note = incident_pb2.IncidentEvent.TYPE_NOTE
    return pb.AddEventRequest(
        incident_id=incident_id, event_id=token(), type=note, summary="seen"
    ), incident_id


async def _retry(world: World) -> tuple[Any, str]:
    incident_id = await world.parked()
    return pb.RetrySideEffectRequest(incident_id=incident_id, effect=WEBHOOK), incident_id


async def _retry_all(world: World) -> tuple[Any, str]:
    await world.parked()
    return pb.RetrySideEffectsRequest(effects=[WEBHOOK]), ""


async def _dismiss(world: World) -> tuple[Any, str]:
    incident_id = await world.parked()
    request = pb.DismissSideEffectRequest(incident_id=incident_id, effect=WEBHOOK, reason="not wanted")
    return request, incident_id


CALLS: Mapping[str, Callable[[World], Awaitable[tuple[Any, str]]]] = {
    "Create": _create,
    "StartInvestigation": _start,
    "Resolve": _resolve,
    "BatchResolve": _batch,
    "Reopen": _reopen,
    "RemoveCanary": _remove_canary,
    "AddEvent": _add_event,
    "RetrySideEffect": _retry,
    "RetrySideEffects": _retry_all,
    "DismissSideEffect": _dismiss,
}


def test_every_method_either_reads_or_is_audited() -> None:
    services = (pb.DESCRIPTOR, flywheel_stats_service_pb2.DESCRIPTOR)
    methods = {
        f"{service.full_name}/{method.name}"
        for file in services
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert READING | TARGETS.keys() == methods
    assert not READING & TARGETS.keys()
    assert {f"{SERVICE}/{name}" for name in CALLS} == TARGETS.keys()


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_is_one_record_in_the_transaction_of_its_change(
    name: str, world: World, stub: "IncidentServiceAsyncStub", service: RunningService
) -> None:
    request, target = await CALLS[name](world)
    await getattr(stub, name)(request, metadata=ALICE)
    url = service.database_url
    found = await record(url, target, operation=f"{SERVICE}/{name}", digest=digest(request))
    assert (found["actor"], found["method"], found["outcome"], found["code"]) == (
        "alice",
        "loopback",
        "CHANGED",
        "OK",
    )
    assert found["calls"] == 1
    changed = await world.rows.fetchval(
        "SELECT count(*) FROM (SELECT xmin FROM incidents UNION ALL SELECT xmin FROM incident_events"
        " UNION ALL SELECT xmin FROM outbox UNION ALL SELECT xmin FROM removed_incidents) AS written WHERE xmin::text = $1",
        found["transaction"],
    )
    # The row of the change may have been written again since, by the worker: its other rows remain.
    assert changed or name.startswith("Retry")
    assert await problems(url, "incident") == []


@pytest.mark.parametrize("name", ["StartInvestigation", "Resolve", "AddEvent", "DismissSideEffect"])
async def test_a_repeated_call_changes_nothing_and_is_recorded_as_such(
    name: str, world: World, stub: "IncidentServiceAsyncStub", service: RunningService
) -> None:
    request, target = await CALLS[name](world)
    for _ in range(4):
        await getattr(stub, name)(request, metadata=ALICE)
    url, operation = service.database_url, f"{SERVICE}/{name}"
    again = await record(url, target, operation=operation, outcome="UNCHANGED", digest=digest(request))
    assert (again["actor"], again["code"], again["calls"]) == ("alice", "OK", 3)
    assert len(await records(url, target, operation=operation, outcome="CHANGED")) == 1


async def test_refused_calls_are_recorded_with_their_reason_and_equal_ones_counted(
    incidents: Incidents, stub: "IncidentServiceAsyncStub", service: RunningService
) -> None:
    incident = await incidents.resolved()
    request = pb.ResolveRequest(incident_id=UNKNOWN_ID, resolution_type=HUMAN)
    for _ in range(3):
        assert (await refused(stub.Resolve(request, metadata=ALICE))).code is grpc.StatusCode.NOT_FOUND
    found = await record(
        service.database_url, UNKNOWN_ID, actor="alice", outcome="REFUSED", digest=digest(request)
    )
    assert (found["operation"], found["code"], found["calls"]) == (f"{SERVICE}/Resolve", "NOT_FOUND", 3)
    assert found["reason"] == "INCIDENT_NOT_FOUND"

    start = pb.StartInvestigationRequest(incident_id=incident.incident_id)
    await refused(stub.StartInvestigation(start, metadata=ALICE))
    found = await record(service.database_url, incident.incident_id, outcome="REFUSED")
    assert (found["code"], found["digest"]) == ("FAILED_PRECONDITION", digest(start))


@pytest.mark.parametrize(
    ("request_bytes", "actor", "code"),
    [
        pytest.param(b"\xff\xff", "mallory-bytes", "INVALID_ARGUMENT", id="bytes that cannot be read"),
        pytest.param(
            pb.ResolveRequest(incident_id="no id; DROP TABLE", resolution_type=HUMAN).SerializeToString(),
            "mallory-id",
            "INVALID_ARGUMENT",
            id="a text for an id",
        ),
    ],
)
async def test_a_refused_request_leaves_no_text_of_its_caller(
    request_bytes: bytes, actor: str, code: str, service: RunningService
) -> None:
    async with grpc.aio.insecure_channel(service.address) as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/Resolve")
        with pytest.raises(grpc.aio.AioRpcError):
            await call(request_bytes, metadata=caller(actor))
    # Bytes that cannot be read are refused before anyone looks at who sent them.
    found = await record(
        service.database_url,
        operation=f"{SERVICE}/Resolve",
        code=code,
        reason="UNREADABLE_REQUEST" if actor == "mallory-bytes" else "INVALID_ARGUMENT",
    )
    assert (found["targets"], found["outcome"]) == ("", "REFUSED")


async def test_a_create_that_is_deduplicated_is_a_change(
    stub: "IncidentServiceAsyncStub", service: RunningService
) -> None:
    request = create_request(fingerprint=token())
    incident_id = (await stub.Create(request, metadata=ALICE)).incident.incident_id
    await stub.Create(request, metadata=ALICE)
    found = await records(service.database_url, incident_id, operation=f"{SERVICE}/Create")
    assert [each["outcome"] for each in found] == ["CHANGED", "CHANGED"]
