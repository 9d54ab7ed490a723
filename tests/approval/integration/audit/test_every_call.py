"""Every call and every decision that changes an approval is one audit record, written in the transaction of the change."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from approval.audited import READING, TARGETS
from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from awoooi.flywheel.v1 import flywheel_stats_service_pb2
from tests.approval.schemas import rows
from tests.audit_trail import digest, problems, record, records
from tests.callers import Approvals, Incidents, caller
from tests.rpc_errors import refused
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVICE = "awoooi.approval.v1.ApprovalService"
ALICE = caller("alice")


@dataclass(frozen=True)
class World:
    """What a call is prepared with."""

    approvals: Approvals
    incidents: Incidents
    url: str

    async def proposed(self) -> str:
        """A proposed approval."""
        return (await self.approvals.proposed(await self.incidents.opened_id())).approval_id

    async def parked(self) -> tuple[str, str]:
        """A dead letter: its id and that of its approval."""
        executed = await self.approvals.executed(await self.incidents.opened_id())
        await self.approvals.until_delivered(executed.approval_id)
        ((delivery_id,),) = await rows(
            self.url,
            "UPDATE outbox SET state = 'PARKED', done_time = NULL WHERE topic = 'incident.resolve' AND dedup_key = $1"
            " RETURNING job_id",
            executed.approval_id,
        )
        return str(delivery_id), executed.approval_id


@pytest_asyncio.fixture(loop_scope="session")
async def world(approvals: Approvals, incidents: Incidents, approval_service: RunningService) -> World:
    return World(approvals, incidents, approval_service.database_url)


async def _propose(world: World) -> tuple[Any, str]:
    incident_id = await world.incidents.opened_id()
    request = pb.ProposeRequest(
        incident_id=incident_id, action="NO_ACTION: observe first", risk=approval_pb2.RISK_LOW
    )
    return request, incident_id


async def _approve(world: World) -> tuple[Any, str]:
    approval_id = await world.proposed()
    return pb.ApproveRequest(approval_id=approval_id), approval_id


async def _reject(world: World) -> tuple[Any, str]:
    approval_id = await world.proposed()
    return pb.RejectRequest(approval_id=approval_id, reason="not now"), approval_id


async def _cancel(world: World) -> tuple[Any, str]:
    approval_id = await world.proposed()
    return pb.CancelRequest(approval_id=approval_id, reason="not needed"), approval_id


async def _execute(world: World) -> tuple[Any, str]:
    approval_id = (await world.approvals.approved(await world.incidents.opened_id())).approval_id
    return pb.ExecuteRequest(approval_id=approval_id), approval_id


async def _remove_canary(world: World) -> tuple[Any, str]:
    incident_id = await world.incidents.opened_id(labels={"flywheel-canary": "true"})
    approval_id = (await world.approvals.proposed(incident_id)).approval_id
    await world.approvals.cancel(approval_id)
    return pb.RemoveCanaryRequest(approval_id=approval_id), approval_id


async def _reconcile(world: World) -> tuple[Any, str]:
    executed = await world.approvals.executed(await world.incidents.opened_id())
    await world.approvals.until_delivered(executed.approval_id)
    await rows(world.url, "DELETE FROM outbox WHERE dedup_key = $1", executed.approval_id)
    await rows(
        world.url,
        "UPDATE approvals SET incident_resolve_time = NULL WHERE approval_id = $1",
        executed.approval_id,
    )
    return pb.ReconcileRequest(), executed.approval_id


async def _retry(world: World) -> tuple[Any, str]:
    delivery_id, approval_id = await world.parked()
    return pb.RetryDeliveryRequest(delivery_id=delivery_id), approval_id


async def _retry_all(world: World) -> tuple[Any, str]:
    delivery_id, _ = await world.parked()
    return pb.RetryDeliveriesRequest(limit=100), delivery_id


async def _dismiss(world: World) -> tuple[Any, str]:
    delivery_id, approval_id = await world.parked()
    return pb.DismissDeliveryRequest(delivery_id=delivery_id, reason="by hand"), approval_id


CALLS: Mapping[str, Callable[[World], Awaitable[tuple[Any, str]]]] = {
    "Propose": _propose,
    "Approve": _approve,
    "Reject": _reject,
    "Cancel": _cancel,
    "Execute": _execute,
    "RemoveCanary": _remove_canary,
    "Reconcile": _reconcile,
    "RetryDelivery": _retry,
    "RetryDeliveries": _retry_all,
    "DismissDelivery": _dismiss,
}


async def test_every_method_either_reads_or_is_audited() -> None:
    methods = {
        f"{service.full_name}/{method.name}"
        for file in (pb.DESCRIPTOR, flywheel_stats_service_pb2.DESCRIPTOR)
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert READING | TARGETS.keys() == methods
    assert not READING & TARGETS.keys()
    assert {f"{SERVICE}/{name}" for name in CALLS} == TARGETS.keys()


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_is_one_record_in_the_transaction_of_its_change(name: str, world: World) -> None:
    request, target = await CALLS[name](world)
    await getattr(world.approvals.stub, name)(request, metadata=ALICE)
    found = await record(world.url, target, operation=f"{SERVICE}/{name}", digest=digest(request))
    assert (found["actor"], found["method"], found["outcome"], found["code"], found["calls"]) == (
        "alice",
        "loopback",
        "CHANGED",
        "OK",
        1,
    )
    ((written,),) = await rows(
        world.url,
        "SELECT count(*) FROM (SELECT xmin FROM approvals UNION ALL SELECT xmin FROM approval_decisions"
        " UNION ALL SELECT xmin FROM outbox UNION ALL SELECT xmin FROM counters) AS written WHERE xmin::text = $1",
        found["transaction"],
    )
    # The worker may have written the job of a change again since.
    assert written or name in ("Reconcile", "RetryDelivery", "RetryDeliveries")
    assert await problems(world.url, "approval") == []


@pytest.mark.parametrize("name", ["Approve", "Reject", "Cancel", "Execute", "DismissDelivery"])
async def test_a_repeated_call_changes_nothing_and_is_recorded_as_such(name: str, world: World) -> None:
    request, target = await CALLS[name](world)
    for _ in range(3):
        await getattr(world.approvals.stub, name)(request, metadata=ALICE)
    operation = f"{SERVICE}/{name}"
    again = await record(world.url, operation=operation, outcome="UNCHANGED", digest=digest(request))
    assert (again["actor"], again["calls"]) == ("alice", 2)
    assert len(await records(world.url, target, operation=operation, outcome="CHANGED")) == 1


async def test_a_refused_decision_is_recorded_with_its_reason(world: World) -> None:
    approval_id = await world.proposed()
    request = pb.ApproveRequest(approval_id=approval_id)
    refusal = await refused(world.approvals.stub.Approve(request, metadata=caller("proposer")))
    found = await record(world.url, approval_id, outcome="REFUSED")
    assert (found["actor"], found["operation"], found["digest"]) == (
        "proposer",
        f"{SERVICE}/Approve",
        digest(request),
    )
    assert (found["code"], found["reason"]) == (refusal.code.name, refusal.reason)
    assert not await records(world.url, approval_id, operation=f"{SERVICE}/Approve", outcome="CHANGED")


async def test_concurrent_decisions_and_executions_of_two_replicas_leave_one_record_each(
    world: World, replica: Approvals
) -> None:
    approval_ids = [await world.proposed() for _ in range(12)]
    servers = (world.approvals, replica)
    await asyncio.gather(*(server.approve(each, actor="bob") for each in approval_ids for server in servers))
    await asyncio.gather(*(server.execute(each) for each in approval_ids for server in servers))
    for approval_id in approval_ids:
        for name in ("Approve", "Execute"):
            found = await records(world.url, approval_id, operation=f"{SERVICE}/{name}", outcome="CHANGED")
            assert len(found) == 1
    assert await problems(world.url, "approval") == []


async def test_what_the_service_does_by_itself_is_recorded_under_its_own_name(
    restless: Approvals, restless_service: RunningService, incidents: Incidents
) -> None:
    approval = await restless.proposed(await incidents.opened_id(), ttl=timedelta(milliseconds=50))
    expired = await record(restless_service.database_url, approval.approval_id, operation="background/expiry")
    assert (expired["actor"], expired["method"]) == ("service:approval", "system")
    automatic = await restless.proposed(await incidents.opened_id(), auto_execute=True)
    await restless.approve(automatic.approval_id)
    executed = await record(
        restless_service.database_url, automatic.approval_id, operation="background/execution"
    )
    assert (executed["actor"], executed["outcome"]) == ("service:approval", "CHANGED")
