"""The acts of `flywheel demo --alerts`, in order; each checks and prints what it has brought about."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from awoooi.approval.v1 import approval_pb2
from awoooi.client import SyncApprovalClient, SyncIncidentClient
from awoooi.incident.v1 import incident_pb2
from flywheel.demo.monitoring import ALERT, Monitoring
from flywheel.demo.output import DemoOutput
from flywheel.demo.reports import Reports
from flywheel.demo.target import Notification, Target, hook_of
from flywheel.errors import FlywheelError
from flywheel.stack.stack import Stack
from flywheel.system.log_files import tail

_CALL_SECONDS = 20.0

Approval = approval_pb2.Approval
Event = incident_pb2.IncidentEvent
Incident = incident_pb2.Incident
Recovery = approval_pb2.Recovery

# On the timeline of every case.
_EVENTS = (
    Event.TYPE_PROPOSED,
    Event.TYPE_APPROVED,
    Event.TYPE_EXECUTION_STARTED,
    Event.TYPE_EXECUTED,
)

Result = TypeVar("Result")


@dataclass
class _Case:
    """One queue, and what it has led to."""

    queue: str
    is_repaired: bool
    incident_id: str = ""
    approval_id: str = ""


class AlertStory:
    """Plays once."""

    def __init__(
        self,
        stack: Stack,
        monitoring: Monitoring,
        target: Target,
        output: DemoOutput,
        step_seconds: float,
        *,
        queues: Mapping[str, bool],
    ) -> None:
        """`queues` says of each whether its repair helps."""
        self._stack = stack
        self._monitoring = monitoring
        self._target = target
        self._output = output
        self._step_seconds = step_seconds
        self._cases = [_Case(queue, is_repaired) for queue, is_repaired in queues.items()]
        self._reports = Reports(
            prometheus=monitoring.prometheus,
            alertmanager=monitoring.alertmanager,
            intake=str(stack.intake.address.connect_address),
        )

    def play(self) -> None:
        """Play all acts. Raises FlywheelError at the first step that does not happen in time."""
        with (
            SyncIncidentClient(
                str(self._stack.incident.address.connect_address), actor="operator", timeout=_CALL_SECONDS
            ) as self._incidents,
            SyncApprovalClient(
                str(self._stack.approval.address.connect_address), actor="operator", timeout=_CALL_SECONDS
            ) as self._approvals,
        ):
            self._show_links()
            self._fire()
            self._propose_and_approve()
            self._verify()
            for case in self._cases:
                self._show_timeline(case)
            self._show_stats()

    def _show_links(self) -> None:
        for name, address in (
            ("page", self._stack.gateway.address.connect_address),
            ("Prometheus", f"{self._monitoring.prometheus}/alerts"),
            ("Alertmanager", self._monitoring.alertmanager),
        ):
            self._output.note(f"{name:<13} http://{address}")

    def _fire(self) -> None:
        self._output.act(
            "Two queues do not drain", "Prometheus fires, Alertmanager posts, the intake opens incidents"
        )
        queues = {case.queue for case in self._cases}
        self._until("Prometheus did not scrape the queues", lambda: queues <= self._reports.scraped())
        self._output.restart_clock()
        self._target.stop_draining()
        self._output.step("the queues grow")
        self._until(f"the alert {ALERT} did not fire in Prometheus", lambda: queues <= self._reports.firing())
        self._output.step(f"Prometheus fires {ALERT} for {' and '.join(sorted(queues))}")
        for case in self._cases:
            incident = self._until(
                f"the alert of {case.queue} did not reach the incident service through the intake",
                partial(self._opened_for, case),
            )
            case.incident_id = incident.incident_id
            severity = incident_pb2.Severity.Name(incident.severity).removeprefix("SEVERITY_")
            self._output.step(f"{case.incident_id} is open, {severity}: {incident.title}")

    def _propose_and_approve(self) -> None:
        self._output.act(
            "A repair is proposed and approved for each", "people are notified that it waits for them"
        )
        for case in self._cases:
            action = f"HTTP POST {hook_of(case.queue)}"
            case.approval_id = self._approvals.propose(
                case.incident_id,
                action=action,
                risk="MEDIUM",
                rationale=f"The worker of {case.queue} holds its connection and takes no message.",
                auto_execute=True,
                actor="ai",
            ).approval_id
            self._output.step(f"{case.approval_id} is proposed by ai: {action}")
        for case in self._cases:
            self._read(case.approval_id, "pending")
            self._approvals.approve(case.approval_id, actor="alice")
            self._output.step(f"{case.approval_id} is approved by alice")
        for case in self._cases:
            self._until(f"the hook of {case.queue} was not called", partial(self._is_executed, case))
            self._output.step(f"the hook {hook_of(case.queue)} has responded 200: the execution SUCCEEDED")

    def _verify(self) -> None:
        self._output.act("Has it helped?", "a command that worked is no repair before the alert is gone")
        for case in self._cases:
            if case.is_repaired:
                self._see_recovery(case)
        for case in self._cases:
            if not case.is_repaired:
                self._see_no_recovery(case)

    def _see_recovery(self, case: _Case) -> None:
        self._until(
            f"the alert of {case.queue} did not end in Alertmanager",
            lambda: case.queue not in self._reports.active(),
        )
        self._output.step(f"the alert of {case.queue} is gone in Alertmanager")
        approval = self._until(
            f"the recovery of {case.incident_id} was not verified", lambda: self._looked_for(case)
        )
        self._expect(approval, Recovery.RECOVERY_VERIFIED)
        incident = self._until(
            f"{case.incident_id} was not resolved", lambda: self._in_state(case, Incident.STATE_RESOLVED)
        )
        kind = incident_pb2.ResolutionType.Name(incident.resolution_type).removeprefix("RESOLUTION_TYPE_")
        self._output.step(f"recovery VERIFIED: {approval.recovery_message}")
        self._output.step(f"{case.incident_id} is RESOLVED as {kind}")
        if incident.resolution_type != incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED:
            raise FlywheelError(f"{case.incident_id} is resolved as {kind}, and it must be AUTO_REPAIRED")
        self._read(case.incident_id, "notification")
        self._until(
            f"the side effects of {case.incident_id} did not finish",
            lambda: all(
                effect.state != incident_pb2.SideEffect.STATE_PENDING
                for effect in self._incidents.list_side_effects(incident_id=case.incident_id)
            ),
        )

    def _see_no_recovery(self, case: _Case) -> None:
        approval = self._until(
            f"the window of the recovery of {case.incident_id} did not end", lambda: self._looked_for(case)
        )
        self._expect(approval, Recovery.RECOVERY_NOT_RECOVERED)
        self._output.step(f"recovery NOT_RECOVERED: {approval.recovery_message}")
        self._read(case.approval_id, "not")
        if self._in_state(case, Incident.STATE_OPEN) is None:
            raise FlywheelError(f"{case.incident_id} is not OPEN, and its repair has not helped")
        self._output.step(f"{case.incident_id} is still OPEN")

    def _show_timeline(self, case: _Case) -> None:
        found = self._until(
            f"the timeline of {case.incident_id} was not complete", partial(self._complete_timeline, case)
        )
        events = sorted(found, key=lambda event: event.event_time.ToNanoseconds())
        self._output.act(f"Timeline of {case.incident_id}", f"the queue {case.queue}")
        opened = events[0].event_time.ToNanoseconds()
        for event in events:
            seconds = (event.event_time.ToNanoseconds() - opened) / 1e9
            self._output.note(f"{seconds:6.1f} s  {_line(event)}".rstrip())

    def _show_stats(self) -> None:
        self._output.act("Figures", "of the gateway, as this Prometheus has scraped them")
        helped = sum(case.is_repaired for case in self._cases)
        for name, label, value, expected in (
            ("executions_total", "outcome", "succeeded", len(self._cases)),
            ("recoveries_total", "outcome", "verified", helped),
            ("recoveries_total", "outcome", "not_recovered", len(self._cases) - helped),
            ("incidents_resolved_total", "resolution_type", "auto_repaired", helped),
        ):
            series = f'{name}{{{label}="{value}"}}'
            self._until(
                f"{series} was not {expected} in Prometheus",
                partial(self._reports.has, f"awoooi_flywheel_{series}", expected),
            )
            self._output.check(series, expected, expected)

    def _read(self, about: str, event: str) -> None:
        """Wait for the message about an approval or incident, and print it as people read it."""

        def read() -> Notification | None:
            start = f"{about}/{event}"
            return next(
                (each for each in self._target.notifications if each.message_id.startswith(start)), None
            )

        message = self._until(f"people were not notified of {about} ({event})", read)
        self._output.step(f"people read: {message.title}")

    def _opened_for(self, case: _Case) -> incident_pb2.Incident | None:
        return next(iter(self._incidents.list(labels={"queue": case.queue})), None)

    def _complete_timeline(self, case: _Case) -> Sequence[incident_pb2.IncidentEvent] | None:
        """Return the events, once those of the approval service are delivered."""
        events = list(self._incidents.list_events(case.incident_id))
        expected = {*_EVENTS, Event.TYPE_RECOVERED if case.is_repaired else Event.TYPE_NOT_RECOVERED}
        return events if expected <= {event.type for event in events} else None

    def _is_executed(self, case: _Case) -> bool:
        approval = self._approvals.get(case.approval_id)
        if approval.HasField("finish_time") and approval.state != Approval.STATE_SUCCEEDED:
            raise FlywheelError(
                f"the execution of {case.approval_id} is {Approval.State.Name(approval.state)}"
            )
        return approval.state == Approval.STATE_SUCCEEDED

    def _looked_for(self, case: _Case) -> approval_pb2.Approval | None:
        approval = self._approvals.get(case.approval_id)
        return approval if approval.recovery != Recovery.RECOVERY_PENDING else None

    def _in_state(
        self, case: _Case, state: incident_pb2.Incident.State.ValueType
    ) -> incident_pb2.Incident | None:
        incident = self._incidents.get(case.incident_id)
        return incident if incident.state == state else None

    def _expect(self, approval: approval_pb2.Approval, recovery: approval_pb2.Recovery.ValueType) -> None:
        if approval.recovery != recovery:
            raise FlywheelError(
                f"the recovery of {approval.approval_id} is {_name(approval.recovery)}, and it must be {_name(recovery)}: "
                f"{approval.recovery_message}",
                details=self._details(),
            )

    def _until(self, failure: str, read: Callable[[], Result | None]) -> Result:
        """Wait until `read` returns something. Raises FlywheelError with `failure` and how far the alerts have come."""
        found = self._output.await_result(read, self._step_seconds)
        if not found:
            raise FlywheelError(
                f"{failure} within {self._step_seconds:g} s: {self._reports.summary()}",
                details=self._details(),
            )
        return found

    def _details(self) -> str:
        """Return the ends of the logs, which are gone with the demo's folder."""
        parts = [*self._monitoring.services, self._stack.intake, self._stack.approval]
        return "\n".join(
            f"{part.name} ({part.exit_status() or 'runs'}):\n{log}"
            for part in parts
            if (log := tail(part.log_path, 5))
        )


def _line(event: incident_pb2.IncidentEvent) -> str:
    """Return the event type, the actor and the subject of a timeline entry."""
    kind = Event.Type.Name(event.type).removeprefix("TYPE_")
    attributes = event.attributes
    actor = attributes.get("approved_by") or attributes.get("proposed_by") or event.actor
    about = (
        event.summary.split("\n", 1)[0] or attributes.get("resolution_type") or attributes.get("effect", "")
    )
    return f"{kind:<17}  {actor:<16}  {about}"


def _name(recovery: approval_pb2.Recovery.ValueType) -> str:
    return Recovery.Name(recovery).removeprefix("RECOVERY_")
