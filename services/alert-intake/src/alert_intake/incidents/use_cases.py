"""The effect of a notification: the incidents of its alerts are opened or resolved.

Nothing is kept here. What was not committed is an error to Alertmanager, which posts it again: its retry is the queue.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from alert_intake.incidents.open_incident import OpenIncident
from alert_intake.incidents.outcomes import Outcome, Result
from alert_intake.incidents.resolve_incident import ResolveIncident
from alert_intake.mapping.report import Report
from awoooi.client import CallError, FailedPreconditionError, InvalidArgumentError

_log = structlog.get_logger()

_NOT_TRIED = "not tried: another call failed"
_LATE = "not committed in time"


class Intake:
    """Takes the reports of notifications."""

    def __init__(
        self, firing: OpenIncident, end: ResolveIncident, *, concurrent_reports: int, timeout: timedelta
    ) -> None:
        self._firing = firing
        self._end = end
        # Of all notifications: the services are not to be flooded by one group.
        self._running = asyncio.Semaphore(concurrent_reports)
        self._timeout = timeout.total_seconds()

    async def accept(self, reports: Sequence[Report]) -> Sequence[Outcome]:
        """Open and resolve incidents until all is done or the time is over. Returns one outcome each, in order."""
        outcomes = [Outcome(report, Result.FAILED, _LATE) for report in reports]
        # After a failure the rest would wait for the same service.
        failed = asyncio.Event()

        async def accept(position: int, report: Report) -> None:
            async with self._running:
                if failed.is_set():
                    outcomes[position] = Outcome(report, Result.FAILED, _NOT_TRIED)
                    return
                outcome = outcomes[position] = await self._accept(report)
            if outcome.result is Result.FAILED:
                failed.set()

        try:
            async with asyncio.timeout(self._timeout), asyncio.TaskGroup() as group:
                for position, report in enumerate(reports):
                    group.create_task(accept(position, report))
        except TimeoutError:
            _log.warning("post_not_committed_in_time", reports=len(reports))
        return outcomes

    async def _accept(self, report: Report) -> Outcome:
        try:
            result = await (self._firing.run(report) if report.firing else self._end.run(report))
        except (InvalidArgumentError, FailedPreconditionError) as exc:
            _log.warning("alert_rejected", fingerprint=report.fingerprint, error=str(exc))
            return Outcome(report, Result.REJECTED, exc.message)
        except CallError as exc:
            _log.warning("alert_not_committed", fingerprint=report.fingerprint, error=str(exc))
            return Outcome(report, Result.FAILED, f"{exc.code.name}: {exc.message}")
        return Outcome(report, result)
