"""Resolve failing in every way: a NO_ACTION stays SUCCEEDED, and its delivery is retried or dead-lettered."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import grpc
import pytest

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from tests.approval.fronted import Fronted
from tests.approval.schemas import end_leases, rows
from tests.approval.scripted_incidents import Behaviour, answer, hang, lose_the_reply, pass_on
from tests.callers import DeliveryState, Incidents, State
from tests.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

RESOLVED = incident_pb2.Incident.STATE_RESOLVED
SECRET = "hunter2"

# How Resolve fails, the error of the delivery, and whether the incident was resolved nevertheless.
HEALING: Mapping[str, tuple[Behaviour | None, str, bool]] = {
    "service_down": (None, "UNAVAILABLE", False),
    "unavailable": (answer(grpc.StatusCode.UNAVAILABLE), "UNAVAILABLE: scripted", False),
    "deadline": (hang, "DEADLINE_EXCEEDED", False),
    "reply_lost": (lose_the_reply, "DEADLINE_EXCEEDED", True),
    "internal": (answer(grpc.StatusCode.INTERNAL), "INTERNAL: scripted", False),
    "unknown": (answer(grpc.StatusCode.UNKNOWN), "UNKNOWN: scripted", False),
    "permission_denied": (answer(grpc.StatusCode.PERMISSION_DENIED), "PERMISSION_DENIED: scripted", False),
    "unauthenticated": (answer(grpc.StatusCode.UNAUTHENTICATED), "UNAUTHENTICATED: scripted", False),
    "unimplemented": (answer(grpc.StatusCode.UNIMPLEMENTED), "UNIMPLEMENTED: scripted", False),
    "overload": (answer(grpc.StatusCode.RESOURCE_EXHAUSTED), "RESOURCE_EXHAUSTED: scripted", False),
    "aborted": (answer(grpc.StatusCode.ABORTED), "ABORTED: scripted", False),
    "cancelled": (answer(grpc.StatusCode.CANCELLED), "CANCELLED: scripted", False),
}
# Permanent errors.
PARKING = [
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
]


async def _fail(fronted: Fronted, behaviour: Behaviour | None) -> None:
    if behaviour is None:
        await fronted.front.stop()
    else:
        fronted.front.behaviour = behaviour


async def _heal(fronted: Fronted) -> None:
    fronted.front.behaviour = pass_on
    await fronted.front.start()


@pytest.mark.parametrize(("behaviour", "error", "resolved"), HEALING.values(), ids=HEALING)
async def test_a_failed_resolve_is_retried_with_backoff_and_leaves_the_execution_succeeded(
    fronted: Fronted, incidents: Incidents, behaviour: Behaviour | None, error: str, resolved: bool
) -> None:
    approvals = fronted.approvals
    incident_id = await incidents.opened_id()
    approval = await approvals.approved(incident_id)
    await _fail(fronted, behaviour)

    answered = (await approvals.execute(approval.approval_id)).approval
    assert answered.state == State.STATE_SUCCEEDED
    assert not answered.HasField("incident_resolve_time")
    waiting = await eventually(
        lambda: approvals.delivery(approval.approval_id),
        lambda delivery: delivery.last_error.startswith(error),
    )
    assert waiting.state == DeliveryState.STATE_PENDING
    assert waiting.incident_id == incident_id
    assert waiting.HasField("next_attempt_time")
    assert not waiting.HasField("done_time")
    assert (await approvals.get(approval.approval_id)).state == State.STATE_SUCCEEDED
    assert (await incidents.get(incident_id)).state == (
        RESOLVED if resolved else incident_pb2.Incident.STATE_OPEN
    )
    failure = await fronted.service.logged(
        "incident_resolve_after_no_action_execution_failed",
        approval_id=approval.approval_id,
        incident_id=incident_id,
        path="no_action",
        error=waiting.last_error,
    )
    assert failure["level"] == "warning"

    await _heal(fronted)
    delivered = await approvals.until_delivered(approval.approval_id)
    assert delivered.state == State.STATE_SUCCEEDED
    assert delivered.finish_time == answered.finish_time
    done = await approvals.delivery(approval.approval_id)
    assert done.state == DeliveryState.STATE_DONE
    assert done.delivery_id == waiting.delivery_id
    assert done.HasField("done_time")
    assert not done.HasField("next_attempt_time")
    incident = await incidents.get(incident_id)
    assert (incident.state, incident.resolution_number) == (RESOLVED, 1)
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_NO_ACTION
    assert len(await incidents.events(incident_id, incident_pb2.IncidentEvent.TYPE_RESOLVED)) == 1
    assert not await rows(
        fronted.service.database_url,
        "SELECT FROM auto_repair_executions WHERE approval_id = $1",
        approval.approval_id,
    )


async def test_a_failed_resolve_is_retried_with_backoff(fronted: Fronted, incidents: Incidents) -> None:
    incident_id = await incidents.opened_id()
    approval = await fronted.approvals.approved(incident_id)
    fronted.front.behaviour = answer(grpc.StatusCode.INTERNAL)
    await fronted.approvals.execute(approval.approval_id)
    waiting = await eventually(
        lambda: fronted.approvals.delivery(approval.approval_id), lambda delivery: delivery.attempts >= 4
    )
    assert waiting.state == DeliveryState.STATE_PENDING
    assert fronted.front.resolves_of(incident_id) >= 3
    await _heal(fronted)
    await fronted.approvals.until_delivered(approval.approval_id)


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    ],
    ids=lambda code: code.name,
)
async def test_an_error_that_only_an_operator_can_fix_is_logged_as_an_error(
    fronted: Fronted, incidents: Incidents, code: grpc.StatusCode
) -> None:
    fronted.front.behaviour = answer(code)
    incident_id = await incidents.opened_id()
    approval = await fronted.approvals.executed(incident_id)
    alarm = await fronted.service.logged("delivery_refused", code=code.name)
    assert alarm["level"] == "error"
    await _heal(fronted)
    await fronted.approvals.until_delivered(approval.approval_id)


@pytest.mark.parametrize("code", PARKING, ids=lambda code: code.name)
async def test_a_delivery_with_a_permanent_error_is_parked_until_it_is_re_queued(
    fronted: Fronted, incidents: Incidents, code: grpc.StatusCode
) -> None:
    approvals = fronted.approvals
    incident_id = await incidents.opened_id()
    approval = await approvals.approved(incident_id)
    fronted.front.behaviour = answer(code)
    assert (await approvals.execute(approval.approval_id)).approval.state == State.STATE_SUCCEEDED
    parked = await approvals.until_delivery(approval.approval_id, DeliveryState.STATE_PARKED)
    assert parked.last_error == f"{code.name}: scripted"
    assert parked.attempts >= 1
    assert not parked.HasField("next_attempt_time")
    assert (await approvals.get(approval.approval_id)).state == State.STATE_SUCCEEDED

    await _heal(fronted)
    back = await approvals.retry_delivery(parked.delivery_id)
    assert back.delivery_id == parked.delivery_id
    assert back.attempts == parked.attempts
    delivered = await approvals.until_delivered(approval.approval_id)
    assert delivered.state == State.STATE_SUCCEEDED
    assert (await approvals.delivery(approval.approval_id)).attempts > parked.attempts
    assert (await incidents.get(incident_id)).resolution_number == 1


async def test_a_backlog_is_delivered_in_batches_and_each_job_is_marked_by_its_own_result(
    fronted: Fronted, incidents: Incidents
) -> None:
    approvals = fronted.approvals
    await fronted.front.stop()
    known = [await incidents.opened_id() for _ in range(30)]
    unknown = [f"INC-20200101-{number:012X}" for number in range(5)]
    backlog: dict[str, approval_pb2.Approval] = {}
    for incident_id in (*known, *unknown):
        backlog[incident_id] = await approvals.executed(incident_id)
    pending = (await approvals.stats()).deliveries.deliveries
    assert {entry.state: entry.count for entry in pending}[DeliveryState.STATE_PENDING] >= len(backlog)
    fronted.front.resolves.clear()
    # All fall due at one instant, with the peer back.
    await end_leases(fronted.service.database_url, timedelta(seconds=3))
    before = (await approvals.delivery(backlog[known[0]].approval_id)).attempts
    await _heal(fronted)
    for incident_id in known:
        await approvals.until_delivered(backlog[incident_id].approval_id)
    for incident_id in unknown:
        parked = await approvals.until_delivery(backlog[incident_id].approval_id, DeliveryState.STATE_PARKED)
        assert parked.last_error.startswith("NOT_FOUND")
    # Thirty-five resolves, and far fewer calls.
    assert len(fronted.front.resolves) <= 20
    # One; on a loaded machine it may not be answered in time, and be tried again.
    attempts = (await approvals.delivery(backlog[known[0]].approval_id)).attempts
    assert fronted.front.resolves_of(known[0]) == attempts - before


async def test_a_fault_of_one_delivery_delays_no_other(fronted: Fronted, incidents: Incidents) -> None:
    approvals = fronted.approvals
    hanging = await approvals.approved(await incidents.opened_id())
    fronted.front.behaviour = hang
    await approvals.execute(hanging.approval_id)
    fronted.front.behaviour = pass_on
    other = await approvals.executed(await incidents.opened_id())
    await asyncio.gather(
        approvals.until_delivered(other.approval_id), approvals.until_delivered(hanging.approval_id)
    )


async def test_a_password_in_a_peers_error_is_neither_stored_nor_logged(
    fronted: Fronted, incidents: Incidents
) -> None:
    approval = await fronted.approvals.approved(await incidents.opened_id())
    fronted.front.behaviour = answer(
        grpc.StatusCode.INTERNAL, f"cannot reach postgresql://flywheel:{SECRET}@db/incident"
    )
    await fronted.approvals.execute(approval.approval_id)
    delivery = await eventually(
        lambda: fronted.approvals.delivery(approval.approval_id), lambda found: bool(found.last_error)
    )
    assert "cannot reach postgresql://flywheel:" in delivery.last_error
    assert SECRET not in delivery.last_error
    await fronted.service.logged(
        "incident_resolve_after_no_action_execution_failed", approval_id=approval.approval_id
    )
    assert not [line for line in fronted.service.lines if SECRET in line]
    await _heal(fronted)
    await fronted.approvals.until_delivered(approval.approval_id)


async def test_a_long_error_of_a_peer_is_truncated_to_the_limit_of_the_contract(
    fronted: Fronted, incidents: Incidents
) -> None:
    approval = await fronted.approvals.approved(await incidents.opened_id())
    fronted.front.behaviour = answer(grpc.StatusCode.NOT_FOUND, "x" * 3000)
    await fronted.approvals.execute(approval.approval_id)
    parked = await fronted.approvals.until_delivery(approval.approval_id, DeliveryState.STATE_PARKED)
    assert 100 < len(parked.last_error) <= 1024
