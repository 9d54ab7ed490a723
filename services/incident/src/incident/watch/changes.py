"""Changes of incidents, and the filter of a watcher."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from incident.model import Event, Incident, Severity, State
from servicekit.watch.model import Position, Witness

# The size of an incident and its event besides their texts.
_CHARACTERS = 3_000


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """An event, its incident at that time or later, and the state before (None: there was no incident) and after it.

    An event that does not change the state has the same state before and after.
    """

    event: Event
    incident: Incident
    state_before: State | None
    state_after: State
    position: Position

    @property
    def witness(self) -> Witness:
        """What a database must have that has not lost it."""
        return Witness(self.event.event_id, self.event.incident_id, self.event.event_time)

    @property
    def characters(self) -> int:
        """About how much memory it takes."""
        incident, event = self.incident, self.event
        return (
            _CHARACTERS
            + len(incident.title)
            + len(incident.description)
            + len(incident.resolution_note)
            + len(event.summary)
            + sum(len(name) + len(value) for name, value in incident.labels.items())
            + sum(len(name) + len(value) for name, value in event.attributes.items())
        )


@dataclass(frozen=True, slots=True)
class WatchFilter:
    """The criteria of a watcher; an empty field is no criterion."""

    states: tuple[State, ...] = ()
    severities: tuple[Severity, ...] = ()
    fingerprint: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    incident_id: str = ""

    def matches(self, change: Change) -> bool:
        """Return whether a change matches: its incident was in one of the states before or after it, and matches the rest."""
        if self.states and not {change.state_before, change.state_after}.intersection(self.states):
            return False
        return self._matches_content(change.incident)

    def matches_incident(self, incident: Incident) -> bool:
        """Return whether an incident matches in its present state."""
        if self.states and incident.state not in self.states:
            return False
        return self._matches_content(incident)

    def _matches_content(self, incident: Incident) -> bool:
        if self.incident_id and incident.incident_id != self.incident_id:
            return False
        if self.severities and incident.severity not in self.severities:
            return False
        if self.fingerprint and incident.fingerprint != self.fingerprint:
            return False
        return self.labels.items() <= incident.labels.items()
