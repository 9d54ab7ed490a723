"""Which incidents are about an alert."""

from collections.abc import Sequence

from awoooi.client import IncidentClient
from awoooi.incident.v1 import incident_pb2

SOURCE = "alertmanager"
_UNRESOLVED = (incident_pb2.Incident.STATE_OPEN, incident_pb2.Incident.STATE_INVESTIGATING)


def is_unresolved(incident: incident_pb2.Incident) -> bool:
    """Tell whether an incident is not resolved."""
    return incident.state in _UNRESOLVED


async def latest_incident(incidents: IncidentClient, fingerprint: str) -> incident_pb2.Incident | None:
    """Return the newest incident that the intake opened for an alert. Raises CallError."""
    return await _newest(incidents, fingerprint, ())


async def unresolved_incident(incidents: IncidentClient, fingerprint: str) -> incident_pb2.Incident | None:
    """Return the unresolved incident that the intake opened for an alert: there is one at most. Raises CallError."""
    return await _newest(incidents, fingerprint, _UNRESOLVED)


async def _newest(
    incidents: IncidentClient, fingerprint: str, states: Sequence[incident_pb2.Incident.State.ValueType]
) -> incident_pb2.Incident | None:
    page = await incidents.list(fingerprint=fingerprint, states=states, page_size=1).page()
    # Others may report the same fingerprint: theirs is not the intake's to resolve.
    return next((incident for incident in page.incidents if incident.source == SOURCE), None)
