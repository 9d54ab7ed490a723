"""`flywheel demo`: the outage INC-20260507-99ADF2, replayed on a temporary stack.

566 incidents are stuck; each gets an approved NO_ACTION; the incident service is down when they are executed. Every
number that is printed comes from the gateway's `/metrics` or from a response.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from awoooi.approval.v1 import approval_pb2, approval_service_pb2
from awoooi.client import SyncApprovalClient, SyncIncidentClient
from flywheel.demo.output import DemoOutput
from flywheel.demo.scrape import Scrape, scrape
from flywheel.demo.surroundings import without_settings
from flywheel.stack.ending import end_stack
from flywheel.stack.stack import Stack
from flywheel.system.signals import raise_stop_signals

# Short, so that the demo need not wait for the 30 minutes after which an incident is stuck in production.
_STUCK_AFTER = "2s"
_CALL_SECONDS = 20.0


def run(*, incidents: int) -> None:
    """Run the demo; a signal ends it, and nothing that it started stays.

    Raises FlywheelError when a number is not the expected one.
    """
    raise_stop_signals()
    output = DemoOutput()
    with tempfile.TemporaryDirectory(prefix="flywheel-demo-") as folder:
        stack = Stack(
            Path(folder),
            incident_listen="127.0.0.1:0",
            approval_listen="127.0.0.1:0",
            gateway_listen="127.0.0.1:0",
            intake_listen="127.0.0.1:0",
            environment={**without_settings(os.environ), "INCIDENT_STUCK_AFTER": _STUCK_AFTER},
        )
        try:
            with output.status("starting a stack of its own: PostgreSQL, two services, gateway and intake"):
                stack.start()
            _Story(stack, output, incidents).play()
            output.end("The loop is closed: nothing stuck, nothing twice.")
        finally:
            with output.status("stopping"):
                end_stack(stack)


class _Story:
    """The acts, in order; each checks and prints the numbers that it leaves."""

    def __init__(self, stack: Stack, output: DemoOutput, incidents: int) -> None:
        self._stack = stack
        self._output = output
        self._count = incidents
        self._incident_ids: Sequence[str] = []
        self._approval_ids: Sequence[str] = []

    def play(self) -> None:
        with (
            SyncIncidentClient(
                str(self._stack.incident.address.connect_address), actor="operator", timeout=_CALL_SECONDS
            ) as self._incidents,
            SyncApprovalClient(
                str(self._stack.approval.address.connect_address), actor="operator", timeout=_CALL_SECONDS
            ) as self._approvals,
        ):
            self._get_stuck()
            self._approve()
            self._execute_while_down()
            self._recover()
            self._repeat()

    def _get_stuck(self) -> None:
        self._output.act("Incidents pile up", "the old system approved NO_ACTION and never resolved them")

        def open_incident(number: int) -> str:
            created = self._incidents.create(
                title=f"pod api-{number} answers slowly",
                severity="MEDIUM",
                fingerprint=f"api-latency-{number}",
                source="demo",
                actor="detector",
            )
            self._incidents.start_investigation(created.incident.incident_id)
            return created.incident.incident_id

        self._incident_ids = self._output.run_each("open and investigate", range(self._count), open_incident)
        after = self._await_metrics(
            "wait until they are stuck",
            lambda metrics: metrics.value("awoooi_flywheel_incidents_stuck"),
        )
        self._output.check("incidents stuck", after.value("awoooi_flywheel_incidents_stuck"), self._count)

    def _approve(self) -> None:
        self._output.act("NO_ACTION is proposed and approved", "for each of them: only observe")

        def propose_and_approve(incident_id: str) -> str:
            proposed = self._approvals.propose(
                incident_id, action="NO_ACTION: observe first", risk="LOW", auto_execute=False, actor="ai"
            )
            self._approvals.approve(proposed.approval_id, actor="alice")
            return proposed.approval_id

        self._approval_ids = self._output.run_each(
            "propose and approve", self._incident_ids, propose_and_approve
        )
        approved = scrape(self._gateway).value("awoooi_flywheel_approvals", {"state": "approved"})
        self._output.check("approvals approved", approved, self._count)

    def _execute_while_down(self) -> None:
        self._output.act(
            "The incident service goes down, and all are executed", "the first repair lost its resolves here"
        )
        self._stack.incident.stop()
        executed = self._execute_all("execute")
        succeeded = sum(answer.approval.state == approval_pb2.Approval.STATE_SUCCEEDED for answer in executed)
        self._output.check("executions SUCCEEDED", succeeded, self._count)
        metrics = scrape(self._gateway)
        self._output.check(
            "resolves waiting for delivery",
            metrics.value("awoooi_flywheel_resolve_deliveries", {"state": "pending"}),
            self._count,
        )
        self._output.check(
            'source_up{source="incident"}',
            metrics.value("awoooi_flywheel_source_up", {"source": "incident"}),
            0,
        )

    def _recover(self) -> None:
        self._output.act("The incident service comes back", "the backlog drains by itself")
        started = time.monotonic()
        self._stack.incident.start()
        self._await_metrics(
            "deliver the resolves",
            lambda metrics: _minus(
                self._count, metrics.value("awoooi_flywheel_resolve_deliveries", {"state": "pending"})
            ),
        )
        seconds = time.monotonic() - started
        after = self._await_metrics(
            "finish their side effects",
            lambda metrics: min(
                metrics.value("awoooi_flywheel_incidents_resolved_total", {"resolution_type": "no_action"})
                or 0,
                metrics.value("awoooi_flywheel_postmortems_24h", {"resolution_type": "no_action"}) or 0,
            ),
        )
        self._output.note(f"drained {seconds:.1f} s after the service was started again")
        pending = after.value("awoooi_flywheel_resolve_deliveries", {"state": "pending"})
        self._output.check("resolves waiting for delivery", pending, 0)
        self._output.check("incidents stuck", after.value("awoooi_flywheel_incidents_stuck"), 0)
        executions = after.value("awoooi_flywheel_noop_executions_total")
        resolutions = after.value("awoooi_flywheel_noop_resolutions_total")
        self._output.check("noop executions", executions, self._count)
        self._output.check("noop resolutions", resolutions, self._count)
        self._output.check("incidents resolved, each once", self._resolved_once(), self._count)

    def _repeat(self) -> None:
        self._output.act(
            "Everything is executed again", "the second resolve repeated postmortems and notifications here"
        )
        before = scrape(self._gateway)
        again = self._execute_all("execute again")
        self._output.check(
            "answered with the stored outcome", sum(answer.already_executed for answer in again), self._count
        )
        repeated = self._output.run_each("resolve again", self._incident_ids, self._resolve)
        self._output.check("answered with the existing record", sum(repeated), self._count)
        after = scrape(self._gateway)
        for series, labels in (
            ("awoooi_flywheel_noop_executions_total", {}),
            ("awoooi_flywheel_noop_resolutions_total", {}),
            ("awoooi_flywheel_incidents_resolved_total", {"resolution_type": "no_action"}),
            ("awoooi_flywheel_postmortems_24h", {"resolution_type": "no_action"}),
        ):
            expected = before.value(series, labels)
            self._output.check(
                f"{series.removeprefix('awoooi_flywheel_')}, unchanged", after.value(series, labels), expected
            )
        self._output.check("incidents resolved, each once", self._resolved_once(), self._count)

    @property
    def _gateway(self) -> str:
        return str(self._stack.gateway.address.connect_address)

    def _await_metrics(self, what: str, progress: Callable[[Scrape], float | None]) -> Scrape:
        """Scrape until `progress` is at the number of incidents; return that scrape."""

        def read() -> tuple[Scrape, float | None]:
            metrics = scrape(self._gateway)
            return metrics, progress(metrics)

        return self._output.run_until(what, self._count, read)

    def _execute_all(self, what: str) -> Sequence[approval_service_pb2.ExecuteResponse]:
        return self._output.run_each(what, self._approval_ids, self._approvals.execute)

    def _resolve(self, incident_id: str) -> bool:
        return self._incidents.resolve(incident_id, resolution_type="NO_ACTION").already_resolved

    def _resolved_once(self) -> int:
        """Count the incidents that are RESOLVED and whose timeline has one RESOLVED event."""

        def once(incident_id: str) -> bool:
            return len(list(self._incidents.list_events(incident_id, types=["RESOLVED"]))) == 1

        return sum(self._output.run_each("count the RESOLVED events", self._incident_ids, once))


def _minus(total: int, value: float | None) -> float | None:
    return None if value is None else total - value
