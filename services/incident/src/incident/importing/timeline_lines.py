"""The timeline entries of an import, and the lines of approvals that they are made of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict

from incident.model import INCIDENT_ID_PREFIX, OWN_EVENT_PREFIX, EventType
from servicekit.importing.fields import Actor, Line, LongText, TextForm, Time, identifier, text

_APPROVAL_SERVICE = "service:approval"


@dataclass(frozen=True, slots=True)
class ImportedEvent:
    """A timeline entry. Entries of the same time are ordered by `rank`.

    Without an `event_time` it is written as of now. The resolution number is None when it depends on the database.
    """

    event_id: str
    incident_id: str
    type: EventType
    actor: str
    event_time: datetime | None
    rank: int
    summary: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    resolution_number: int | None = None


# The order of events of the same time; the note about the import comes last.
RANKS = {
    event_type: rank
    for rank, event_type in enumerate(
        (
            EventType.OPENED,
            EventType.INVESTIGATION_STARTED,
            EventType.PROPOSED,
            EventType.APPROVED,
            EventType.REJECTED,
            EventType.EXPIRED,
            EventType.CANCELLED,
            EventType.EXECUTED,
            EventType.EXECUTION_FAILED,
            EventType.RESOLVED,
            EventType.EFFECT_DONE,
            EventType.NOTE,
        )
    )
}


class _Decision(Line):
    """A decision, as far as a timeline shows it."""

    model_config = ConfigDict(extra="ignore")

    actor: Actor
    kind: Literal["APPROVE", "REJECT"]
    reason: LongText | None = None


# How each state of an approval stands on the incident's timeline, and whether it was approved before.
_DECIDED = {
    "APPROVED": EventType.APPROVED,
    "REJECTED": EventType.REJECTED,
    "EXPIRED": EventType.EXPIRED,
    "CANCELLED": EventType.CANCELLED,
    "SUCCEEDED": EventType.APPROVED,
    "FAILED": EventType.APPROVED,
    "INDETERMINATE": EventType.APPROVED,
}
_FINISHED = {
    "SUCCEEDED": EventType.EXECUTED,
    "FAILED": EventType.EXECUTION_FAILED,
    "INDETERMINATE": EventType.EXECUTION_FAILED,
}


class ApprovalLine(Line):
    """An approval of the previous system, as far as its incident's timeline shows it: the approval service has the rest."""

    model_config = ConfigDict(extra="ignore")

    kind: Literal["approval"]
    approval_id: Annotated[str, identifier("APR")]
    incident_id: Annotated[str, identifier(INCIDENT_ID_PREFIX)]
    action: Annotated[str, text(TextForm.LINE, characters=1024, blank=False)]
    # EXECUTING is refused by the approval service, with the reason.
    state: Literal[
        "PENDING",
        "APPROVED",
        "REJECTED",
        "EXPIRED",
        "CANCELLED",
        "EXECUTING",
        "SUCCEEDED",
        "FAILED",
        "INDETERMINATE",
    ]
    proposed_by: Actor
    create_time: Time
    decide_time: Time | None = None
    finish_time: Time | None = None
    incident_resolve_time: Time | None = None
    outcome_message: LongText | None = None
    cancelled_by: Actor | None = None
    decisions: list[_Decision] | None = None

    def events(self) -> Iterator[ImportedEvent]:
        """Yield the timeline entries that the approval service delivers for an approval in this state."""
        yield self._event(
            EventType.PROPOSED, self.create_time, self.action, {"proposed_by": self.proposed_by}
        )
        decided = _DECIDED.get(self.state)
        if decided is not None and self.decide_time is not None:
            yield self._event(decided, self.decide_time, *self._decided(decided))
        finished = _FINISHED.get(self.state)
        if finished is not None and self.finish_time is not None:
            summary = self.action if finished is EventType.EXECUTED else self.outcome_message or self.action
            yield self._event(finished, self.finish_time, summary, {})

    def _decided(self, event_type: EventType) -> tuple[str, Mapping[str, str]]:
        """Return the summary and the attributes of a decision."""
        if event_type is EventType.EXPIRED:
            return self.action, {}
        if event_type is EventType.CANCELLED:
            return self.outcome_message or "", {"actor": self.cancelled_by or ""}
        kind, name = ("APPROVE", "approved_by") if event_type is EventType.APPROVED else ("REJECT", "actor")
        matching = [decision for decision in self.decisions or () if decision.kind == kind]
        return (matching[-1].reason or "", {name: matching[-1].actor}) if matching else ("", {})

    def _event(
        self, event_type: EventType, time: datetime, summary: str, attributes: Mapping[str, str]
    ) -> ImportedEvent:
        return ImportedEvent(
            f"{OWN_EVENT_PREFIX}imported/{self.approval_id}/{event_type.lower()}",
            self.incident_id,
            event_type,
            _APPROVAL_SERVICE,
            time,
            RANKS[event_type],
            summary,
            {"approval_id": self.approval_id, **attributes},
        )
