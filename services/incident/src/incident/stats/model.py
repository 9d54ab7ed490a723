"""The stats of the incident service. Knows no database and no wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from incident.effects.model import OpenSideEffects, SideEffect
from incident.model import Severity, State


@dataclass(frozen=True, slots=True)
class StatsBounds:
    """How much the stats read at most. A count that reaches its bound means: at least so many."""

    # Unresolved incidents, stuck ones, postmortems of a day.
    counted: int = 100_000
    # Stuck incidents whose reason is read, those stuck longest; and the entries about approvals on the timeline of each.
    examined: int = 1_000
    entries: int = 50
    # Side effects of one kind in one state.
    jobs: int = 20_000
    # Incidents opened, and resolved, in one hour.
    of_hour: int = 10_000


BOUNDS = StatsBounds()


@dataclass(frozen=True, slots=True)
class StuckIncident:
    """An incident that is stuck, and why."""

    incident_id: str
    title: str
    severity: Severity
    state: State
    reason: str
    last_progress_time: datetime


@dataclass(frozen=True, slots=True)
class Hour:
    """The incidents opened and resolved in the hour that begins at `start_time`."""

    start_time: datetime
    opened: int
    resolved: int


@dataclass(frozen=True, slots=True)
class IncidentDetails:
    """The lists for a person: at most twenty entries in each, and the last 24 hours."""

    stuck: Sequence[StuckIncident]
    hours: Sequence[Hour]
    waiting: Sequence[SideEffect]


@dataclass(frozen=True, slots=True)
class IncidentStats:
    """The stats as of one snapshot of the database. A key that is missing from a mapping counts 0."""

    # By the database's clock.
    read_time: datetime
    # The newest migration that was run.
    database_revision: str
    # By state, severity, resolution type and reason.
    unresolved: Mapping[str, int]
    stuck_by_reason: Mapping[str, int]
    stuck_after: timedelta
    opened: Mapping[str, int]
    resolved: Mapping[str, int]
    # Observations at or below each of RESOLUTION_BOUNDS_SECONDS, those of the lower bounds included.
    resolution_cumulative: Sequence[int]
    resolution_count: int
    resolution_seconds_sum: float
    postmortems_24h: Mapping[str, int]
    open_side_effects: OpenSideEffects
    # By effect, and OTHER_EFFECT.
    dismissed_side_effects: Mapping[str, int]
    # Only when they were requested.
    details: IncidentDetails | None
