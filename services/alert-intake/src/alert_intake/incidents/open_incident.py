"""An alert that fires: its incident is opened, once."""

from collections.abc import Callable
from datetime import datetime, timedelta

from alert_intake.incidents.lookup import SOURCE, is_unresolved, latest_incident
from alert_intake.incidents.outcomes import Result
from alert_intake.mapping.firing import Firing, parse_end_note
from alert_intake.mapping.report import Report
from awoooi.client import AlreadyExistsError, IncidentClient, NotFoundError
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1.incident_service_pb2 import CreateResponse

_ID_TAKEN = "INCIDENT_ID_TAKEN"


class OpenIncident:
    """Opens the incident of a firing, or finds it."""

    def __init__(
        self, incidents: IncidentClient, *, late_after: timedelta, clock: Callable[[], datetime]
    ) -> None:
        """A report that an ended alert fires may be an old one of another Alertmanager, within `late_after` of its end."""
        self._incidents = incidents
        self._late_after = late_after
        self._clock = clock

    async def run(self, report: Report) -> Result:
        """Return when the incident is committed. Raises CallError."""
        firing = Firing(report.fingerprint, report.starts_at)
        created = await self._open(report, firing)
        if created is not None and is_unresolved(created.incident):
            return Result.DEDUPLICATED if created.deduplicated else Result.REPORTED
        latest = await latest_incident(self._incidents, report.fingerprint)
        if latest is None or is_unresolved(latest):
            return Result.REPORTED
        if latest.resolution_type != incident_pb2.RESOLUTION_TYPE_EXPIRED_ALERT:
            return Result.STILL_FIRING
        resolved_at = latest.resolve_time.ToDatetime(self._clock().tzinfo)
        if abs(self._clock() - resolved_at) < self._late_after:
            return Result.UNSETTLED
        ended_before = parse_end_note(latest.resolution_note) or resolved_at
        again = await self._open(report, Firing(report.fingerprint, report.starts_at, ended_before))
        return Result.REPORTED if again is None or is_unresolved(again.incident) else Result.UNSETTLED

    async def _open(self, report: Report, firing: Firing) -> CreateResponse | None:
        """Return the incident of a firing, committed by this or before; None when it is not known which one that is."""
        try:
            return await self._create(report, firing, firing.incident_id)
        except AlreadyExistsError as exc:
            # Its annotations say something else now, such as the current value: it is the same firing.
            if exc.reason != _ID_TAKEN:
                return None
        try:
            incident = await self._incidents.get(firing.incident_id)
        except NotFoundError:
            return None
        if incident.fingerprint == report.fingerprint:
            return CreateResponse(incident=incident)
        # Another firing has the same digest: this one gets an id of the server's.
        try:
            return await self._create(report, firing, "")
        except AlreadyExistsError:
            return None

    async def _create(self, report: Report, firing: Firing, incident_id: str) -> CreateResponse:
        return await self._incidents.create(
            title=report.title,
            severity=report.severity.value,
            description=report.description,
            fingerprint=report.fingerprint,
            labels=report.labels,
            source=SOURCE,
            incident_id=incident_id,
            request_id=firing.request_id,
        )
