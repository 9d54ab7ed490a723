"""The reasons of stuck incidents, from the approvals on their timelines."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from awoooi.flywheel.v1 import flywheel_stats_pb2
from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents
from tests.incident.incidents import NO_ACTION, token
from tests.incident.integration.stats.aged import age

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

Reason = flywheel_stats_pb2.StuckReason

# The entries of approvals on a timeline, and the reason why the incident is stuck. An event of no approval has no number.
Entry = tuple[str, int | None]
STUCK: dict[str, tuple[Sequence[Entry], str]] = {
    "no proposal": ([], "NO_APPROVAL"),
    "a note only": ([("NOTE", None)], "NO_APPROVAL"),
    "proposed": ([("PROPOSED", 1)], "APPROVAL_PENDING"),
    "proposed by hand": ([("PROPOSED", None)], "APPROVAL_PENDING"),
    "rejected": ([("PROPOSED", 1), ("REJECTED", 1)], "NO_APPROVAL"),
    "expired": ([("PROPOSED", 1), ("EXPIRED", 1)], "NO_APPROVAL"),
    "withdrawn": ([("PROPOSED", 1), ("CANCELLED", 1)], "NO_APPROVAL"),
    "withdrawn after the approval": ([("PROPOSED", 1), ("APPROVED", 1), ("CANCELLED", 1)], "NO_APPROVAL"),
    "approved": ([("PROPOSED", 1), ("APPROVED", 1)], "APPROVED_NOT_EXECUTED"),
    "approved, delivered before the proposal": ([("APPROVED", 1), ("PROPOSED", 1)], "APPROVED_NOT_EXECUTED"),
    "failed": ([("PROPOSED", 1), ("APPROVED", 1), ("EXECUTION_FAILED", 1)], "EXECUTION_FAILED"),
    "failed, delivered before the approval": (
        [("EXECUTION_FAILED", 1), ("PROPOSED", 1), ("APPROVED", 1)],
        "EXECUTION_FAILED",
    ),
    "executed": ([("PROPOSED", 1), ("APPROVED", 1), ("EXECUTED", 1)], "EXECUTED_NOT_RESOLVED"),
    "one rejected, another waits": ([("PROPOSED", 1), ("PROPOSED", 2), ("REJECTED", 2)], "APPROVAL_PENDING"),
    "one failed, another is proposed": (
        [("PROPOSED", 1), ("APPROVED", 1), ("EXECUTION_FAILED", 1), ("PROPOSED", 2)],
        "APPROVAL_PENDING",
    ),
    "one failed, the next was rejected": (
        [("PROPOSED", 1), ("APPROVED", 1), ("EXECUTION_FAILED", 1), ("PROPOSED", 2), ("REJECTED", 2)],
        "EXECUTION_FAILED",
    ),
    "proposed again by hand after a failure": (
        [("PROPOSED", None), ("EXECUTION_FAILED", None), ("PROPOSED", None)],
        "APPROVAL_PENDING",
    ),
    "executed and reopened": ([("PROPOSED", 1), ("EXECUTED", 1), ("REOPENED", None)], "NO_APPROVAL"),
    "executed and reopened while another waits": (
        [("PROPOSED", 1), ("PROPOSED", 2), ("EXECUTED", 2), ("REOPENED", None)],
        "APPROVAL_PENDING",
    ),
    "proposed after it was reopened": (
        [("PROPOSED", 1), ("EXECUTED", 1), ("REOPENED", None), ("PROPOSED", 2)],
        "APPROVAL_PENDING",
    ),
}

# Apart: a list has no more than twenty.
VERIFIED: dict[str, tuple[Sequence[Entry], str]] = {
    "executed, and its alert is gone": (
        [("PROPOSED", 1), ("APPROVED", 1), ("EXECUTED", 1), ("RECOVERED", 1)],
        "EXECUTED_NOT_RESOLVED",
    ),
    "executed, and its alert is not gone": (
        [("PROPOSED", 1), ("APPROVED", 1), ("EXECUTED", 1), ("NOT_RECOVERED", 1)],
        "NOT_RECOVERED",
    ),
    "not recovered, delivered before the execution": (
        [("NOT_RECOVERED", 1), ("PROPOSED", 1), ("EXECUTED", 1)],
        "NOT_RECOVERED",
    ),
    "one did not help, another waits": (
        [("PROPOSED", 1), ("EXECUTED", 1), ("NOT_RECOVERED", 1), ("PROPOSED", 2)],
        "APPROVAL_PENDING",
    ),
}


# The same by the time when each happened, in minutes; the entries arrive in this order. The reopening is now.
LATE: dict[str, tuple[Sequence[tuple[str, int, int]], str]] = {
    "an execution before the reopening, delivered after it": (
        [("PROPOSED", 1, -9), ("APPROVED", 1, -8), ("EXECUTED", 1, -7)],
        "NO_APPROVAL",
    ),
    "a failure before the reopening, delivered after it": ([("EXECUTION_FAILED", 1, -7)], "NO_APPROVAL"),
    "an earlier proposal, delivered after a later failure": (
        [("EXECUTION_FAILED", 1, 2), ("PROPOSED", 2, 1)],
        "EXECUTION_FAILED",
    ),
}


async def test_the_reason_follows_when_things_happened_not_when_they_were_delivered(
    incidents: Incidents, rows: "Rows"
) -> None:
    ids: dict[str, str] = {}
    for title, (entries, _) in LATE.items():
        incident_id = await incidents.opened_id(title=title)
        ids[incident_id] = title
        await record(incidents, incident_id, ("REOPENED", None))
        reopened = (await incidents.get(incident_id)).last_progress_time.ToDatetime(UTC)
        for kind, approval, minutes in entries:
            happened = reopened + timedelta(minutes=minutes)
            await record(incidents, incident_id, (kind, approval), event_time=happened)
    await age(rows, "last_progress_time", list(ids), timedelta(minutes=31))
    found = await incidents.stats("FULL")
    reasons = {
        ids[each.incident_id]: Reason.Name(each.reason).removeprefix("STUCK_REASON_")
        for each in found.incidents.stuck_incidents
        if each.incident_id in ids
    }
    assert reasons == {title: reason for title, (_, reason) in LATE.items()}
    for incident_id in ids:
        await incidents.resolve(incident_id, resolution_type=NO_ACTION)


async def record(
    incidents: Incidents, incident_id: str, entry: Entry, *, event_time: datetime | None = None
) -> None:
    kind, approval = entry
    if kind == "REOPENED":
        await incidents.resolve(incident_id, resolution_type=NO_ACTION)
        await incidents.reopen(incident_id, reason="it came back")
        return
    attributes = {} if approval is None else {"approval_id": f"APR-20260507-00000{approval}"}
    await incidents.add_event(
        incident_id,
        event_id=token(),
        type=incident_pb2.IncidentEvent.Type.Value(f"TYPE_{kind}"),
        event_time=event_time,
        summary="as it was",
        attributes=attributes,
    )


@pytest.mark.parametrize("stuck", [STUCK, VERIFIED], ids=["decided", "verified"])
async def test_stuck_incidents_are_counted_by_the_reason_on_their_timelines(
    incidents: Incidents, rows: "Rows", stuck: Mapping[str, tuple[Sequence[Entry], str]]
) -> None:
    ids: dict[str, str] = {}
    for title, (entries, _) in stuck.items():
        ids[(await incidents.opened(title=title)).incident_id] = title
        incident_id = list(ids)[-1]
        for entry in entries:
            await record(incidents, incident_id, entry)
    # Neither is stuck: one has made progress in time, one is resolved.
    await age(rows, "last_progress_time", [(await incidents.opened()).incident_id], timedelta(minutes=29))
    await age(rows, "last_progress_time", [(await incidents.resolved()).incident_id], timedelta(days=1))
    await age(rows, "last_progress_time", list(ids), timedelta(minutes=31))

    found = await incidents.stats("FULL")
    reasons = {
        ids[each.incident_id]: Reason.Name(each.reason).removeprefix("STUCK_REASON_")
        for each in found.incidents.stuck_incidents
    }
    assert reasons == {title: reason for title, (_, reason) in stuck.items()}
    assert found.incidents.stuck == len(stuck)
    expected = dict.fromkeys(Reason.values()[1:], 0)
    for _, reason in stuck.values():
        expected[Reason.Value(f"STUCK_REASON_{reason}")] += 1
    assert {each.reason: each.count for each in found.incidents.stuck_by_reason} == expected
    for incident_id in ids:
        await incidents.resolve(incident_id, resolution_type=NO_ACTION)
