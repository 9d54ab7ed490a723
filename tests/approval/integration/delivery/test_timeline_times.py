"""A timeline entry has the time when its approval changed, however late the incident service receives it."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from tests.approval.fronted import Fronted
from tests.approval.hooks import Hooked
from tests.approval.schemas import rows
from tests.callers import NO_ACTION, UNPARSABLE, Approvals, Incidents, State
from tests.eventually import eventually
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

Type = incident_pb2.IncidentEvent
Ends: TypeAlias = Callable[[Approvals, str], Awaitable[approval_pb2.Approval]]


async def executed(approvals: Approvals, incident_id: str) -> approval_pb2.Approval:
    return await approvals.executed(incident_id)


async def failed(approvals: Approvals, incident_id: str) -> approval_pb2.Approval:
    return await approvals.executed(incident_id, UNPARSABLE)


async def rejected(approvals: Approvals, incident_id: str) -> approval_pb2.Approval:
    return await approvals.reject(
        (await approvals.proposed(incident_id)).approval_id, reason="a restart is needed"
    )


async def cancelled(approvals: Approvals, incident_id: str) -> approval_pb2.Approval:
    return await approvals.cancel((await approvals.approved(incident_id)).approval_id, reason="not needed")


# How an approval ends, its last entry, and the time of the approval that this entry has.
ENDS: dict[str, tuple[Ends, incident_pb2.IncidentEvent.Type.ValueType, str]] = {
    "executed": (executed, Type.TYPE_EXECUTED, "finish_time"),
    "failed": (failed, Type.TYPE_EXECUTION_FAILED, "finish_time"),
    "rejected": (rejected, Type.TYPE_REJECTED, "decide_time"),
    "cancelled": (cancelled, Type.TYPE_CANCELLED, "update_time"),
}


async def times_on_the_timeline(
    incidents: Incidents, approval: approval_pb2.Approval, last: incident_pb2.IncidentEvent.Type.ValueType
) -> dict[int, Timestamp]:
    """The time of each entry of an approval, once the last one has arrived."""

    async def found() -> dict[int, Timestamp]:
        return {
            event.type: event.event_time
            for event in await incidents.events(approval.incident_id)
            if event.attributes.get("approval_id") == approval.approval_id
        }

    return await eventually(found, lambda times: {Type.TYPE_PROPOSED, last} <= set(times))


@pytest.mark.parametrize(("end", "last", "field"), ENDS.values(), ids=ENDS)
async def test_entries_that_wait_for_the_incident_service_keep_the_times_of_the_approval(
    fronted: Fronted,
    incidents: Incidents,
    end: Ends,
    last: incident_pb2.IncidentEvent.Type.ValueType,
    field: str,
) -> None:
    incident_id = await incidents.opened_id()
    await fronted.front.stop()
    approval = await end(fronted.approvals, incident_id)
    await fronted.front.start()
    times = await times_on_the_timeline(incidents, approval, last)
    assert times[Type.TYPE_PROPOSED] == approval.create_time
    assert times[last] == getattr(approval, field)
    if last in (Type.TYPE_EXECUTED, Type.TYPE_EXECUTION_FAILED):
        approved = await eventually(
            lambda: times_on_the_timeline(incidents, approval, Type.TYPE_APPROVED), bool
        )
        assert approved[Type.TYPE_APPROVED] == approval.decide_time


async def test_the_entry_of_an_operation_has_the_time_when_it_ended(
    hooked: Hooked, incidents: Incidents
) -> None:
    approval = await hooked.approvals.executed(await incidents.opened_id(), hooked.new_action())
    times = await times_on_the_timeline(incidents, approval, Type.TYPE_EXECUTED)
    assert times[Type.TYPE_EXECUTED] == approval.finish_time


async def test_an_approval_expired_at_its_expiry_not_when_that_was_noticed(
    restless: Approvals, incidents: Incidents, restless_service: RunningService
) -> None:
    approval = await restless.proposed(await incidents.opened_id(), NO_ACTION, ttl=timedelta(hours=1))
    expiry = datetime.now(UTC) - timedelta(minutes=7)
    await rows(
        restless_service.database_url,
        "UPDATE approvals SET expire_time = $2 WHERE approval_id = $1",
        approval.approval_id,
        expiry,
    )
    expired = await eventually(
        lambda: restless.get(approval.approval_id), lambda found: found.state == State.STATE_EXPIRED
    )
    assert expired.decide_time.ToDatetime(UTC) == expiry
    times = await times_on_the_timeline(incidents, expired, Type.TYPE_EXPIRED)
    assert times[Type.TYPE_EXPIRED] == expired.expire_time
