"""Retries are safe because the contract makes every write idempotent: each, sent twice as a retry sends it."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import pytest
import pytest_asyncio
from google.protobuf.message import Message

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as approval_service
from awoooi.client import ApprovalClient, IncidentClient
from awoooi.client.approvals import SERVICE as APPROVALS
from awoooi.client.approvals import ApprovalMethods
from awoooi.client.call import Call
from awoooi.client.incidents import SERVICE as INCIDENTS
from awoooi.client.incidents import IncidentMethods
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.client.unit.test_contract import SERVICES
from tests.services import RunningService


class World:
    """Clients, and what a write needs to be there before."""

    def __init__(self, incidents: IncidentClient, approvals: ApprovalClient) -> None:
        self.incidents = incidents
        self.approvals = approvals

    async def opened(self) -> incident_pb2.Incident:
        return (await self.incidents.create(title="disk full", severity="HIGH")).incident

    async def proposed(self, *, required_approvals: int = 2) -> approval_pb2.Approval:
        return await self.approvals.propose(
            (await self.opened()).incident_id,
            action="NO_ACTION: observe",
            risk="LOW",
            required_approvals=required_approvals,
            auto_execute=False,
            actor="ai",
        )

    async def send(self, call: Call[Any]) -> Any:
        """Send exactly this, as an attempt does."""
        client = self.incidents if call.method.startswith(INCIDENTS) else self.approvals
        return await client.invoke(call)


Case: TypeAlias = Callable[[World], Awaitable[Call[Any]]]


async def create(_world: World) -> Call[Any]:
    return IncidentMethods.create(None, title="disk full", severity="HIGH", fingerprint=secrets.token_hex(6))


async def start_investigation(world: World) -> Call[Any]:
    incident = await world.opened()
    return IncidentMethods.start_investigation(None, incident.incident_id, etag=incident.etag)


async def resolve(world: World) -> Call[Any]:
    incident = await world.opened()
    return IncidentMethods.resolve(
        None, incident.incident_id, resolution_type="HUMAN", note="mended", etag=incident.etag
    )


async def batch_resolve(world: World) -> Call[Any]:
    human = incident_pb2.RESOLUTION_TYPE_HUMAN
    incident_id = (await world.opened()).incident_id
    items = [pb.BatchResolveRequest.Item(incident_id=incident_id, resolution_type=human)]
    return IncidentMethods.batch_resolve(None, items)


async def reopen(world: World) -> Call[Any]:
    opened = await world.opened()
    incident = (await world.incidents.resolve(opened.incident_id, resolution_type="HUMAN")).incident
    return IncidentMethods.reopen(None, incident.incident_id, reason="again", etag=incident.etag)


async def add_event(world: World) -> Call[Any]:
    return IncidentMethods.add_event(None, (await world.opened()).incident_id, type="NOTE", summary="seen")


async def propose(world: World) -> Call[Any]:
    incident_id = (await world.opened()).incident_id
    return ApprovalMethods.propose(None, incident_id, action="NO_ACTION", risk="LOW", auto_execute=False)


async def approve(world: World) -> Call[Any]:
    approval = await world.proposed()
    return ApprovalMethods.approve(None, approval.approval_id, reason="yes", etag=approval.etag)


async def reject(world: World) -> Call[Any]:
    approval = await world.proposed()
    return ApprovalMethods.reject(None, approval.approval_id, reason="no", etag=approval.etag)


async def cancel(world: World) -> Call[Any]:
    approval = await world.proposed()
    return ApprovalMethods.cancel(None, approval.approval_id, etag=approval.etag, actor="ai")


async def execute(world: World) -> Call[Any]:
    approval = await world.proposed(required_approvals=1)
    approval = await world.approvals.approve(approval.approval_id)
    return ApprovalMethods.execute(None, approval.approval_id, etag=approval.etag)


async def reconcile(_world: World) -> Call[Any]:
    return ApprovalMethods.reconcile(None)


CASES: Mapping[str, Case] = {
    f"{INCIDENTS}/Create": create,
    f"{INCIDENTS}/StartInvestigation": start_investigation,
    f"{INCIDENTS}/Resolve": resolve,
    f"{INCIDENTS}/BatchResolve": batch_resolve,
    f"{INCIDENTS}/Reopen": reopen,
    f"{INCIDENTS}/AddEvent": add_event,
    f"{APPROVALS}/Propose": propose,
    f"{APPROVALS}/Approve": approve,
    f"{APPROVALS}/Reject": reject,
    f"{APPROVALS}/Cancel": cancel,
    f"{APPROVALS}/Execute": execute,
    f"{APPROVALS}/Reconcile": reconcile,
}
# What is done with dead letters and canaries: tests/incident and tests/approval send these again.
ELSEWHERE = {
    f"{INCIDENTS}/RetrySideEffect",
    f"{INCIDENTS}/RetrySideEffects",
    f"{INCIDENTS}/DismissSideEffect",
    f"{INCIDENTS}/RemoveCanary",
    f"{APPROVALS}/RetryDelivery",
    f"{APPROVALS}/RetryDeliveries",
    f"{APPROVALS}/DismissDelivery",
    f"{APPROVALS}/RemoveCanary",
}
READS = ("Get", "List", "Lookup", "Watch", "Search")


@pytest_asyncio.fixture
async def world(incident_service: RunningService, approval_service: RunningService) -> AsyncIterator[World]:
    """Clients of both services."""
    async with (
        IncidentClient(incident_service.address, actor="alice", timeout=60) as incidents,
        ApprovalClient(approval_service.address, actor="alice", timeout=60) as approvals,
    ):
        yield World(incidents, approvals)


def test_every_write_is_sent_twice() -> None:
    rpcs = [rpc for service in SERVICES.values() for rpc in service.methods]
    names = {
        f"{rpc.containing_service.full_name}/{rpc.name}" for rpc in rpcs if not rpc.name.startswith(READS)
    }
    assert names == set(CASES) | ELSEWHERE


@pytest.mark.parametrize("method", CASES)
async def test_a_write_that_is_sent_again_has_the_same_result_and_writes_nothing(
    world: World, method: str
) -> None:
    call = await CASES[method](world)
    assert call.method == method
    first, second = await world.send(call), await world.send(call)
    assert resource(second) == resource(first)


def resource(result: Any) -> object:
    """What the response says of the resource: of an execution its outcome, since its delivery moves on by itself."""
    match result:
        case pb.CreateResponse() | pb.ResolveResponse():
            return result.incident
        case approval_service.ExecuteResponse():
            approval = result.approval
            return approval.state, approval.execute_time, approval.finish_time
        case Message():
            return result
        case [one]:
            return one.resolved.resolution_number, one.resolved.etag
    raise AssertionError(result)
