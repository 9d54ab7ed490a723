"""An alert that has ended: its incident is resolved, unless an action is being executed or it is about more."""

from functools import partial

from alert_intake.incidents.lookup import SOURCE, is_unresolved, unresolved_incident
from alert_intake.incidents.outcomes import Result
from alert_intake.mapping.firing import Firing, end_note, parse_firing
from alert_intake.mapping.report import Report
from awoooi.approval.v1 import approval_pb2
from awoooi.client import AbortedError, ApprovalClient, IncidentClient, NotFoundError
from awoooi.incident.v1 import incident_pb2

_REPORTS = (incident_pb2.IncidentEvent.TYPE_OPENED, incident_pb2.IncidentEvent.TYPE_DEDUPLICATED)
_REOPENED = incident_pb2.IncidentEvent.TYPE_REOPENED
_EXECUTING = (approval_pb2.Approval.STATE_EXECUTING,)
# Of an operation that worked, unless the alert is not gone after it.
_RESOLVING = (
    approval_pb2.RECOVERY_PENDING,
    approval_pb2.RECOVERY_VERIFIED,
    approval_pb2.RECOVERY_UNVERIFIED,
)
# Times that an incident is read again because it changed meanwhile.
_ATTEMPTS = 5


class ResolveIncident:
    """Resolves the incident of a firing that is over."""

    def __init__(self, incidents: IncidentClient, approvals: ApprovalClient) -> None:
        self._incidents = incidents
        self._approvals = approvals

    async def run(self, report: Report) -> Result:
        """Return when nothing is left to do, or what prevents it. Raises CallError."""
        for _ in range(_ATTEMPTS):
            own = await self._own(report)
            incident = own
            if incident is None or not is_unresolved(incident):
                # It was counted at the incident of an earlier firing, or fired again since the same beginning.
                incident = await unresolved_incident(self._incidents, report.fingerprint)
            if incident is None:
                return Result.UNKNOWN if own is None else Result.ALREADY_RESOLVED
            if await self._is_about_more(incident, report):
                is_own_over = own is not None and own.incident_id != incident.incident_id
                return Result.ALREADY_RESOLVED if is_own_over else Result.SUPERSEDED
            if await self._is_being_repaired(incident):
                return Result.HELD
            try:
                resolved = await self._incidents.resolve(
                    incident.incident_id,
                    resolution_type="EXPIRED_ALERT",
                    note=end_note(report.ends_at),
                    # Neither when it is reported again meanwhile, nor when it is reopened.
                    etag=incident.etag,
                    opening=incident.opening,
                )
            except AbortedError:
                continue
            return Result.ALREADY_RESOLVED if resolved.already_resolved else Result.RESOLVED
        return Result.HELD

    async def _own(self, report: Report) -> incident_pb2.Incident | None:
        """Return the incident that this firing opened."""
        try:
            incident = await self._incidents.get(Firing(report.fingerprint, report.starts_at).incident_id)
        except NotFoundError:
            return None
        return incident if (incident.fingerprint, incident.source) == (report.fingerprint, SOURCE) else None

    async def _is_about_more(self, incident: incident_pb2.Incident, report: Report) -> bool:
        """Tell whether a later firing than this one was counted at an incident, or a person reopened it since."""
        is_own = incident.incident_id == Firing(report.fingerprint, report.starts_at).incident_id
        if is_own and incident.occurrence_count == 1 and incident.opening == 1:
            return False
        events = self._incidents.list_events(incident.incident_id, types=(*_REPORTS, _REOPENED))
        async for event in events:
            if event.type == _REOPENED:
                if event.event_time.ToDatetime(report.ends_at.tzinfo) > report.ends_at:
                    return True
                continue
            firing = parse_firing(event.attributes.get("request_id", ""))
            if firing is not None and firing.began_after(report.ends_at):
                return True
        return False

    async def _is_being_repaired(self, incident: incident_pb2.Incident) -> bool:
        """Tell whether an approval of it executes, or will resolve it, as repaired, unless its alert is not gone."""
        of_incident = partial(self._approvals.list, incident_id=incident.incident_id)
        # Page by page: one may be empty while others follow.
        async for _approval in of_incident(states=_EXECUTING):
            return True
        # In this order, or one that ends in between would be in neither. One that begins since changes the incident's etag.
        async for approval in of_incident(recoveries=_RESOLVING):
            if not approval.HasField("incident_resolve_time"):
                return True
        return False
