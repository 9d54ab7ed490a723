"""What an attack is given."""

from dataclasses import dataclass

from awoooi.incident.v1 import incident_pb2

LIST = "/awoooi.incident.v1.IncidentService/List"
GET = "/awoooi.incident.v1.IncidentService/Get"
RESOLVE = "/awoooi.incident.v1.IncidentService/Resolve"
SEARCH = "/awoooi.incident.v1.IncidentService/SearchKnowledge"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
# Of the incidents of 138 KB.
LARGE_SEVERITY = incident_pb2.SEVERITY_LOW


@dataclass(frozen=True, slots=True)
class Target:
    """The addresses of the services (`host:port`), and how long to attack."""

    incident: str
    approval: str
    gateway: str
    # The incident service's database.
    database_url: str
    seconds: float
    # How much of it: 1 in full, less for a short form.
    scale: float

    def number(self, full: int) -> int:
        """Return a count for this scale."""
        return max(1, round(full * self.scale))
