"""Alerts that no other test has."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from alert_intake.mapping.firing import Firing
from awoooi.incident.v1 import incident_pb2
from tests.alert_intake import notifications
from tests.callers import Incidents


class TestedAlert:
    """One alert, with a fingerprint of its own, as Alertmanager reports it."""

    __test__ = False

    def __init__(self) -> None:
        self.fingerprint = secrets.token_hex(8)
        self.began = datetime.now(UTC) - timedelta(hours=1)

    def fires(self, minute: float = 0.0, **fields: Any) -> dict[str, Any]:
        """It fires since this minute after its first beginning."""
        return notifications.alert(self.fingerprint, startsAt=self._at(minute), **fields)

    def ended(self, minute: float = 0.0, *, until: float, **fields: Any) -> dict[str, Any]:
        """It fired from this minute until that one."""
        times = {"startsAt": self._at(minute), "endsAt": self._at(until)}
        return notifications.alert(self.fingerprint, firing=False, **times, **fields)

    def incident_id(self, minute: float = 0.0) -> str:
        """The id of the incident that its firing since this minute opens."""
        return Firing(self.fingerprint, self.began + timedelta(minutes=minute)).incident_id

    def _at(self, minute: float) -> str:
        return (self.began + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z")

    async def incidents(self, incidents: Incidents) -> list[incident_pb2.Incident]:
        """Its incidents, oldest first."""
        found = incidents.list(fingerprint=self.fingerprint, order="CREATE_TIME_ASC")
        return [incident async for incident in found]

    async def incident(self, incidents: Incidents) -> incident_pb2.Incident:
        """Its only incident."""
        (only,) = await self.incidents(incidents)
        return only
