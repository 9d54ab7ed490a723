"""`flywheel demo`: the story of INC-20260507-99ADF2, played on a stack of its own.

566 incidents are stuck; each gets an approved NO_ACTION; the incident service is down when they are executed. Every
number that is printed was read from the gateway's `/metrics` or from an RPC's answer.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import grpc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from awoooi.approval.v1 import approval_pb2, approval_service_pb2
from awoooi.approval.v1.approval_service_pb2_grpc import ApprovalServiceStub
from awoooi.incident.v1 import incident_pb2, incident_service_pb2
from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceStub
from flywheel.commands.scrape import Scrape, scrape
from flywheel.errors import FlywheelError
from flywheel.stack.stack import Stack

# Short, so that the story need not wait for the half hour that makes an incident stuck in production.
_STUCK_AFTER = "2s"
_CALLERS = 16
_CALL_SECONDS = 20.0
_WAIT_SECONDS = 120.0
_POLL_SECONDS = 0.25

_DETECTOR = (("awoooi-actor", "detector"),)
_PROPOSER = (("awoooi-actor", "ai"),)
_APPROVER = (("awoooi-actor", "alice"),)
_OPERATOR = (("awoooi-actor", "operator"),)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def run(*, incidents: int) -> None:
    """Play the story. Raises FlywheelError when anything comes out differently than it must."""
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="flywheel-demo-") as folder:
        stack = Stack(
            Path(folder),
            incident_listen="127.0.0.1:0",
            approval_listen="127.0.0.1:0",
            gateway_listen="127.0.0.1:0",
            environment={"INCIDENT_STUCK_AFTER": _STUCK_AFTER},
        )
        with console.status("starting a stack of its own: PostgreSQL, two services, the gateway"):
            stack.start()
        try:
            _Story(stack, console, incidents).play()
        finally:
            with console.status("stopping"):
                stack.stop()


class _Story:
    """The acts, in order; each says what it saw."""

    def __init__(self, stack: Stack, console: Console, count: int) -> None:
        self._stack = stack
        self._console = console
        self._count = count
        self._incident_ids: Sequence[str] = []
        self._approval_ids: Sequence[str] = []

    def play(self) -> None:
        with (
            grpc.insecure_channel(str(self._stack.incident.address.dialled)) as incident_channel,
            grpc.insecure_channel(str(self._stack.approval.address.dialled)) as approval_channel,
        ):
            self._incidents = IncidentServiceStub(incident_channel)
            self._approvals = ApprovalServiceStub(approval_channel)
            self._get_stuck()
            self._approve()
            self._execute_while_down()
            self._recover()
            self._repeat()
        self._console.print("\n[bold green]The loop is closed: nothing stuck, nothing twice.[/]")

    def _get_stuck(self) -> None:
        self._act("Incidents pile up", "the old system approved NO_ACTION and never resolved them")

        def open_incident(number: int) -> str:
            created = self._incidents.Create(
                incident_service_pb2.CreateRequest(
                    title=f"pod api-{number} answers slowly",
                    severity=incident_pb2.SEVERITY_MEDIUM,
                    fingerprint=f"api-latency-{number}",
                    source="demo",
                ),
                timeout=_CALL_SECONDS,
                metadata=_DETECTOR,
            )
            incident_id = created.incident.incident_id
            self._incidents.StartInvestigation(
                incident_service_pb2.StartInvestigationRequest(incident_id=incident_id),
                timeout=_CALL_SECONDS,
                metadata=_OPERATOR,
            )
            return incident_id

        self._incident_ids = self._each("open and investigate", range(self._count), open_incident)
        after = self._await_metrics(
            "wait until they are stuck",
            lambda metrics: metrics.value("awoooi_flywheel_incidents_stuck"),
            self._count,
        )
        self._saw("incidents stuck", after.value("awoooi_flywheel_incidents_stuck"), self._count)

    def _approve(self) -> None:
        self._act("NO_ACTION is proposed and approved", "for each of them: only observe")

        def propose_and_approve(incident_id: str) -> str:
            proposed = self._approvals.Propose(
                approval_service_pb2.ProposeRequest(
                    incident_id=incident_id,
                    action="NO_ACTION: observe first",
                    risk=approval_pb2.RISK_LOW,
                    auto_execute=False,
                ),
                timeout=_CALL_SECONDS,
                metadata=_PROPOSER,
            )
            approval_id = proposed.approval.approval_id
            self._approvals.Approve(
                approval_service_pb2.ApproveRequest(approval_id=approval_id),
                timeout=_CALL_SECONDS,
                metadata=_APPROVER,
            )
            return approval_id

        self._approval_ids = self._each("propose and approve", self._incident_ids, propose_and_approve)
        approved = scrape(self._gateway).value("awoooi_flywheel_approvals", {"state": "approved"})
        self._saw("approvals approved", approved, self._count)

    def _execute_while_down(self) -> None:
        self._act(
            "The incident service goes down, and all are executed", "the first repair lost its resolves here"
        )
        self._stack.incident.stop()
        executed = self._execute_all("execute")
        succeeded = sum(answer.approval.state == approval_pb2.Approval.STATE_SUCCEEDED for answer in executed)
        self._saw("executions SUCCEEDED", succeeded, self._count)
        metrics = scrape(self._gateway)
        self._saw(
            "resolves waiting for delivery",
            metrics.value("awoooi_flywheel_resolve_deliveries", {"state": "pending"}),
            self._count,
        )
        self._saw(
            'source_up{source="incident"}',
            metrics.value("awoooi_flywheel_source_up", {"source": "incident"}),
            0,
        )

    def _recover(self) -> None:
        self._act("The incident service comes back", "the backlog drains by itself")
        started = time.monotonic()
        self._stack.incident.start()
        self._await_metrics(
            "deliver the resolves",
            lambda metrics: _minus(
                self._count, metrics.value("awoooi_flywheel_resolve_deliveries", {"state": "pending"})
            ),
            self._count,
        )
        seconds = time.monotonic() - started
        after = self._await_metrics(
            "finish their side effects",
            lambda metrics: min(
                metrics.value("awoooi_flywheel_incidents_resolved_total", {"resolution_type": "no_action"})
                or 0,
                metrics.value("awoooi_flywheel_postmortems_24h", {"resolution_type": "no_action"}) or 0,
            ),
            self._count,
        )
        self._console.print(f"    drained {seconds:.1f} s after the service was started again")
        pending = after.value("awoooi_flywheel_resolve_deliveries", {"state": "pending"})
        self._saw("resolves waiting for delivery", pending, 0)
        self._saw("incidents stuck", after.value("awoooi_flywheel_incidents_stuck"), 0)
        executions = after.value("awoooi_flywheel_noop_executions_total")
        resolutions = after.value("awoooi_flywheel_noop_resolutions_total")
        self._saw("noop executions", executions, self._count)
        self._saw("noop resolutions", resolutions, self._count)
        self._saw("incidents resolved, each once", self._resolved_once(), self._count)

    def _repeat(self) -> None:
        self._act(
            "Everything is executed again", "the second resolve repeated postmortems and notifications here"
        )
        before = scrape(self._gateway)
        again = self._execute_all("execute again")
        self._saw(
            "answered with the stored outcome", sum(answer.already_executed for answer in again), self._count
        )
        repeated = self._each("resolve again", self._incident_ids, self._resolve)
        self._saw("answered with the existing record", sum(repeated), self._count)
        after = scrape(self._gateway)
        for series, labels in (
            ("awoooi_flywheel_noop_executions_total", {}),
            ("awoooi_flywheel_noop_resolutions_total", {}),
            ("awoooi_flywheel_incidents_resolved_total", {"resolution_type": "no_action"}),
            ("awoooi_flywheel_postmortems_24h", {"resolution_type": "no_action"}),
        ):
            expected = before.value(series, labels)
            self._saw(
                f"{series.removeprefix('awoooi_flywheel_')}, unchanged", after.value(series, labels), expected
            )
        self._saw("incidents resolved, each once", self._resolved_once(), self._count)

    @property
    def _gateway(self) -> str:
        return str(self._stack.gateway.address.dialled)

    def _execute_all(self, what: str) -> Sequence[approval_service_pb2.ExecuteResponse]:
        def execute(approval_id: str) -> approval_service_pb2.ExecuteResponse:
            return self._approvals.Execute(
                approval_service_pb2.ExecuteRequest(approval_id=approval_id),
                timeout=_CALL_SECONDS,
                metadata=_OPERATOR,
            )

        return self._each(what, self._approval_ids, execute)

    def _resolve(self, incident_id: str) -> bool:
        answer = self._incidents.Resolve(
            incident_service_pb2.ResolveRequest(
                incident_id=incident_id, resolution_type=incident_pb2.RESOLUTION_TYPE_NO_ACTION
            ),
            timeout=_CALL_SECONDS,
            metadata=_OPERATOR,
        )
        return answer.already_resolved

    def _resolved_once(self) -> int:
        """Count the incidents that are RESOLVED and whose timeline has one RESOLVED event."""

        def once(incident_id: str) -> bool:
            answer = self._incidents.ListEvents(
                incident_service_pb2.ListEventsRequest(
                    incident_id=incident_id, types=[incident_pb2.IncidentEvent.TYPE_RESOLVED]
                ),
                timeout=_CALL_SECONDS,
            )
            return len(answer.events) == 1

        return sum(self._each("count the RESOLVED events", self._incident_ids, once))

    def _act(self, title: str, why: str) -> None:
        self._console.print(f"\n[bold]{title}[/] [dim]- {why}[/]")

    def _saw(self, what: str, value: float | None, expected: float | None) -> None:
        shown = "nothing" if value is None else f"{value:g}"
        if value != expected:
            raise FlywheelError(
                f"{what}: {shown}, and it must be {expected:g}" if expected is not None else what
            )
        self._console.print(f"  [green]✓[/] {what}: [bold]{shown}[/]")

    def _each(self, what: str, items: Iterable[Item], call: Callable[[Item], Answer]) -> Sequence[Answer]:
        """Make a call for each item, several at a time, behind a progress bar."""
        todo = list(items)
        with self._bar() as bar, ThreadPoolExecutor(_CALLERS) as callers:
            task = bar.add_task(what, total=len(todo))
            answers: list[Answer] = []
            for answer in callers.map(call, todo):
                answers.append(answer)
                bar.advance(task)
            return answers

    def _await_metrics(self, what: str, progress: Callable[[Scrape], float | None], target: int) -> Scrape:
        """Scrape until `progress` is at `target`, behind a progress bar; return the scrape that was."""
        deadline = time.monotonic() + _WAIT_SECONDS
        with self._bar() as bar:
            task = bar.add_task(what, total=target)
            while True:
                metrics = scrape(self._gateway)
                reached = progress(metrics)
                bar.update(task, completed=reached or 0)
                if reached == target:
                    return metrics
                if time.monotonic() > deadline:
                    raise FlywheelError(f"{what}: at {reached} of {target} after {_WAIT_SECONDS:.0f} s")
                time.sleep(_POLL_SECONDS)

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("  {task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )


def _minus(total: int, value: float | None) -> float | None:
    return None if value is None else total - value
