"""The effect of a notification: each problem's incident is opened, or resolved.

Nothing is kept here. What was not committed is an error to Alertmanager, which posts it again: its retry is the queue.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from alert_intake.intake import metrics
from alert_intake.mapping.problem import Problem, started_at
from awoooi.approval.v1 import approval_pb2
from awoooi.client import (
    AbortedError,
    AlreadyExistsError,
    ApprovalClient,
    CallError,
    FailedPreconditionError,
    IncidentClient,
    InvalidArgumentError,
    NotFoundError,
)
from awoooi.incident.v1 import incident_pb2

_log = structlog.get_logger()

SOURCE = "alertmanager"
_UNRESOLVED = (incident_pb2.Incident.STATE_OPEN, incident_pb2.Incident.STATE_INVESTIGATING)
_REPORTS = (incident_pb2.IncidentEvent.TYPE_OPENED, incident_pb2.IncidentEvent.TYPE_DEDUPLICATED)
# Times that an incident is read again because it changed meanwhile.
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done about one problem, by the name of its counter, and why it was not done."""

    name: str
    problem: Problem
    reason: str = ""

    @property
    def is_committed(self) -> bool:
        """Whether nothing is left to do that a later post could do."""
        return self.name not in (metrics.HELD, metrics.FAILED)


class Intake:
    """Reports problems to the incident service."""

    def __init__(
        self, incidents: IncidentClient, approvals: ApprovalClient, *, concurrent_calls: int
    ) -> None:
        self._incidents = incidents
        self._approvals = approvals
        self._calls = asyncio.Semaphore(concurrent_calls)

    async def accept(self, problems: Sequence[Problem]) -> Sequence[Outcome]:
        """Open and resolve the incidents of the problems. Returns one outcome each, in order."""
        return await asyncio.gather(*(self._accept(problem) for problem in problems))

    async def _accept(self, problem: Problem) -> Outcome:
        async with self._calls:
            try:
                name = await (self._report(problem) if problem.firing else self._end(problem))
            except (InvalidArgumentError, FailedPreconditionError) as exc:
                _log.warning("alert_rejected", fingerprint=problem.fingerprint, error=str(exc))
                return Outcome(metrics.REJECTED, problem, exc.message)
            except CallError as exc:
                _log.warning("alert_not_committed", fingerprint=problem.fingerprint, error=str(exc))
                return Outcome(metrics.FAILED, problem, f"{exc.code.name}: {exc.message}")
        return Outcome(name, problem)

    async def _report(self, problem: Problem) -> str:
        try:
            created = await self._incidents.create(
                title=problem.title,
                severity=problem.severity.value,
                description=problem.description,
                fingerprint=problem.fingerprint,
                labels=problem.labels,
                source=SOURCE,
                incident_id=problem.incident_id,
                request_id=problem.request_id,
            )
        except AlreadyExistsError:
            # Its annotations say something else now, such as the current value: it is the same firing.
            return metrics.REPORTED
        return metrics.DEDUPLICATED if created.deduplicated else metrics.REPORTED

    async def _end(self, problem: Problem) -> str:
        for _ in range(_ATTEMPTS):
            incident = await self._find(problem)
            if incident is None:
                return metrics.UNKNOWN
            if incident.state == incident_pb2.Incident.STATE_RESOLVED:
                return metrics.ALREADY_RESOLVED
            if await self._fires_again(incident, problem):
                return metrics.SUPERSEDED
            if await self._is_being_repaired(incident):
                return metrics.HELD
            try:
                resolved = await self._incidents.resolve(
                    incident.incident_id,
                    resolution_type="EXPIRED_ALERT",
                    note=f"The alert stopped at {problem.ends_at.isoformat()}.",
                    etag=incident.etag,
                    opening=incident.opening,
                )
            except AbortedError:
                continue
            return metrics.ALREADY_RESOLVED if resolved.already_resolved else metrics.RESOLVED
        return metrics.HELD

    async def _find(self, problem: Problem) -> incident_pb2.Incident | None:
        """Return the incident of this firing, or the unresolved one that this firing was counted at."""
        try:
            return await self._incidents.get(problem.incident_id)
        except NotFoundError:
            listed = self._incidents.list(fingerprint=problem.fingerprint, states=_UNRESOLVED, page_size=1)
            return next((each for each in (await listed.page()).incidents if each.source == SOURCE), None)

    async def _fires_again(self, incident: incident_pb2.Incident, problem: Problem) -> bool:
        """Tell whether a later firing than this one was reported, which the incident is about now."""
        if incident.incident_id == problem.incident_id and incident.occurrence_count == 1:
            return False
        async for event in self._incidents.list_events(incident.incident_id, types=_REPORTS):
            began = started_at(event.attributes.get("request_id", ""))
            if began is not None and began > problem.ends_at:
                return True
        return False

    async def _is_being_repaired(self, incident: incident_pb2.Incident) -> bool:
        executing = (approval_pb2.Approval.STATE_EXECUTING,)
        listed = self._approvals.list(incident_id=incident.incident_id, states=executing, page_size=1)
        return bool((await listed.page()).approvals)
