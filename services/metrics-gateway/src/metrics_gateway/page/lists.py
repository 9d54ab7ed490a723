"""The lists of the page: stuck incidents, and what is pending or parked. Their texts come from callers, untrusted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.approval.v1.approval_pb2 import Approval, Delivery
from awoooi.flywheel.v1.flywheel_stats_pb2 import ApprovalStats, DeliveryStats, IncidentStats, SideEffectStats
from awoooi.incident.v1.incident_pb2 import SideEffect
from metrics_gateway.page.conditions import open_of_every_topic, open_side_effects
from metrics_gateway.page.formatting import (
    DELIVERY_STATES,
    EFFECTS,
    OTHER_TOPIC,
    RISKS,
    SEVERITIES,
    SIDE_EFFECT_STATES,
    STUCK_REASONS,
    TOPICS,
    count,
    counted,
    duration,
    line,
    name_of,
)
from metrics_gateway.page.sections import Known, M, Sections, Unknown

# Further rows are folded, so that one long list does not push the others off the screen.
_OPEN_ROWS = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One entry: its id, its state, its age; each with a smaller second line that may be empty."""

    which: str
    which_note: str
    what: str
    what_note: str
    age: str
    age_note: str


@dataclass(frozen=True, slots=True)
class Listing:
    """One list. When its stats are unknown, `unknown` has the reason; when it has no rows, `summary` explains that."""

    anchor: str
    heading: str
    # The headings of which, what and age.
    columns: tuple[str, str, str] = ("", "", "")
    summary: str = ""
    rows: Sequence[Row] = ()
    unknown: str = ""

    @property
    def open_rows(self) -> Sequence[Row]:
        """The rows that are visible without unfolding."""
        return self.rows[:_OPEN_ROWS]

    @property
    def folded_rows(self) -> Sequence[Row]:
        """The rows that are folded."""
        return self.rows[_OPEN_ROWS:]


def listings(sections: Sections) -> Sequence[Listing]:
    """Return the lists in the order of the page."""
    return [
        _listing("stuck", "Stuck incidents", sections.incidents, _stuck),
        _listing("approvals", "Pending approvals", sections.approvals, _approvals),
        _listing("deliveries", "Deliveries", sections.deliveries, _deliveries),
        _listing("side-effects", "Side effects to run", sections.side_effects, _side_effects),
    ]


_Content = tuple[tuple[str, str, str], str, Sequence[Row]]


def _listing(
    anchor: str, heading: str, section: Known[M] | Unknown, content: Callable[[Known[M]], _Content]
) -> Listing:
    if isinstance(section, Unknown):
        return Listing(anchor, heading, unknown=section.reason)
    columns, summary, rows = content(section)
    return Listing(anchor, heading, columns, summary, rows)


def _stuck(section: Known[IncidentStats]) -> _Content:
    stats = section.stats
    rows = [
        Row(
            which=line(entry.incident_id),
            which_note=line(entry.title),
            what=name_of(STUCK_REASONS, entry.reason),
            what_note=name_of(SEVERITIES, entry.severity),
            age=_age(section, entry, "last_progress_time"),
            age_note="",
        )
        for entry in stats.stuck_incidents
    ]
    reasons = sorted(stats.stuck_by_reason, key=lambda entry: -entry.count)
    why = [
        f"{name_of(STUCK_REASONS, entry.reason)}: {count(entry.count)}" for entry in reasons if entry.count
    ]
    summary = "; ".join(filter(None, [*why, _listed(rows, stats.stuck)])) or "No incident is stuck."
    return ("Incident", "Why", "No progress for"), summary, rows


def _approvals(section: Known[ApprovalStats]) -> _Content:
    rows = [
        Row(
            which=line(entry.approval_id),
            which_note=line(entry.incident_id),
            what=line(entry.action),
            what_note=name_of(RISKS, entry.risk),
            age=_age(section, entry, "create_time"),
            age_note=_until(section, entry, "expire_time", "expires"),
        )
        for entry in section.stats.pending
    ]
    pending = sum(entry.count for entry in section.stats.approvals if entry.state == Approval.STATE_PENDING)
    summary = _listed(rows, pending) if pending else "No approval is pending."
    return ("Approval", "Action", "Waits"), summary, rows


def _deliveries(section: Known[DeliveryStats]) -> _Content:
    rows = [_delivery_row(section, entry) for entry in section.stats.waiting]
    summary = _open(rows, open_of_every_topic(section.stats), "Everything is delivered.")
    return ("Incident", "State", "Waits"), summary, rows


def _delivery_row(section: Known[DeliveryStats], entry: Delivery) -> Row:
    (topic, _) = TOPICS.get(entry.topic, OTHER_TOPIC)
    which = line(entry.incident_id) or line(entry.approval_id) or line(entry.idempotency_key)
    note = f"{topic} of {line(entry.approval_id)}" if entry.approval_id else topic
    row = _job_row(section, entry, note, name_of(DELIVERY_STATES, entry.state))
    return replace(row, which=which)


def _side_effects(section: Known[SideEffectStats]) -> _Content:
    rows = [_side_effect_row(section, entry) for entry in section.stats.waiting]
    summary = _open(rows, open_side_effects(section.stats), "Every side effect has run.")
    return ("Incident", "State", "Waits"), summary, rows


def _side_effect_row(section: Known[SideEffectStats], entry: SideEffect) -> Row:
    effect, state = name_of(EFFECTS, entry.effect), name_of(SIDE_EFFECT_STATES, entry.state)
    # A job of another version has no incident.
    return replace(
        _job_row(section, entry, effect, state), which=line(entry.incident_id) or line(entry.delivery_id)
    )


def _job_row(section: Known[M], entry: Delivery | SideEffect, which_note: str, state: str) -> Row:
    return Row(
        which=line(entry.incident_id),
        which_note=which_note,
        what=_tried(state, entry.attempts),
        what_note=line(entry.last_error),
        age=_age(section, entry, "create_time"),
        age_note=_until(section, entry, "next_attempt_time", "next try"),
    )


def _open(rows: Sequence[Row], pending_and_parked: tuple[int, int], none: str) -> str:
    pending, parked = pending_and_parked
    parts = [f"{count(parked)} parked" if parked else "", f"{count(pending)} waiting" if pending else ""]
    return "; ".join(filter(None, [*parts, _listed(rows, pending + parked)])) or none


def _listed(rows: Sequence[Row], total: int) -> str:
    """Return a note when not all of `total` entries are in the list."""
    return f"the first {count(len(rows))} are listed" if 0 < len(rows) < total else ""


def _tried(state: str, attempts: int) -> str:
    return f"{state}, {counted(attempts, 'try', 'tries')}" if attempts else f"{state}, not tried yet"


def _age(section: Known[M], entry: Message, field: str) -> str:
    time: Timestamp = getattr(entry, field)
    return duration(section.age(time.ToDatetime(tzinfo=UTC))) if entry.HasField(field) else ""


def _until(section: Known[M], entry: Message, field: str, what: str) -> str:
    if not entry.HasField(field):
        return ""
    time: Timestamp = getattr(entry, field)
    seconds = -section.age(time.ToDatetime(tzinfo=UTC))
    return f"{what} in {duration(seconds)}" if seconds > 0 else f"{what} now"
