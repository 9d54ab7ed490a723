"""The traces of an operation: its row in the execution log, its stats, its incident's timeline."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from awoooi.approval.v1 import approval_pb2
from awoooi.flywheel.v1 import flywheel_stats_pb2
from awoooi.incident.v1 import incident_pb2
from tests.callers import Approvals, Incidents
from tests.eventually import eventually

EventType = incident_pb2.IncidentEvent
Outcome = flywheel_stats_pb2.ExecutionOutcome


@dataclass(frozen=True)
class Repairs:
    """The stats that operations change."""

    samples: int
    successes: int
    succeeded: int
    failed: int
    indeterminate: int

    def __sub__(self, before: "Repairs") -> "Repairs":
        return Repairs(
            self.samples - before.samples,
            self.successes - before.successes,
            self.succeeded - before.succeeded,
            self.failed - before.failed,
            self.indeterminate - before.indeterminate,
        )


async def repairs(approvals: Approvals) -> Repairs:
    """These stats of the service; none of them counts a NO_ACTION."""
    executions = (await approvals.stats()).executions
    total = {each.outcome: each.count for each in executions.executions_total}
    return Repairs(
        executions.samples,
        executions.successes,
        total[Outcome.EXECUTION_OUTCOME_SUCCEEDED],
        total[Outcome.EXECUTION_OUTCOME_FAILED],
        total[Outcome.EXECUTION_OUTCOME_INDETERMINATE],
    )


async def logged(approvals: Approvals, approval_id: str) -> Sequence[approval_pb2.Execution]:
    """The rows of an approval in the execution log."""
    return [execution async for execution in approvals.list_executions(approval_id=approval_id)]


async def until_ended(approvals: Approvals, approval_id: str) -> approval_pb2.Approval:
    """The approval, once its execution has ended."""
    return await eventually(lambda: approvals.get(approval_id), lambda found: found.HasField("finish_time"))


async def timeline_events(
    incidents: Incidents, incident_id: str, *types: incident_pb2.IncidentEvent.Type.ValueType
) -> Sequence[incident_pb2.IncidentEvent]:
    """The incident's event of each of these types, once all are there; fails when one is there twice.

    In the given order: each is delivered on its own, in no order.
    """
    events = await eventually(
        lambda: incidents.events(incident_id, *types),
        lambda found: {event.type for event in found} == set(types),
    )
    assert Counter(event.type for event in events) == Counter(types), events
    return sorted(events, key=lambda event: types.index(event.type))


async def assert_left_open(
    incidents: Incidents, approvals: Approvals, approval: approval_pb2.Approval
) -> None:
    """The incident of the approval is open, and no resolve is queued."""
    assert not (await approvals.list_deliveries(approval_id=approval.approval_id).page()).deliveries
    incident = await incidents.get(approval.incident_id)
    assert (incident.state, incident.resolution_number) == (incident_pb2.Incident.STATE_OPEN, 0)
