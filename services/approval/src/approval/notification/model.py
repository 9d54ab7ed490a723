"""What people are notified of, and what a message is about. Knows no database and no wire."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from approval.model import NotificationEvent, Risk, State

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NotificationIntent:
    """The intent to notify people of something that happened to an approval."""

    approval_id: str
    incident_id: str
    event: NotificationEvent
    event_time: datetime
    # Who did it, and the reason given; empty: not a person.
    actor: str
    reason: str

    @property
    def message_id(self) -> str:
        """The id of the message, the same at every attempt.

        With the time: an approval whose database was set back to a backup may come to the same state again.
        """
        microseconds = (self.event_time - _EPOCH) // timedelta(microseconds=1)
        return f"{self.approval_id}/{self.event.lower()}/{microseconds:x}"


@dataclass(frozen=True, slots=True)
class Subject:
    """An approval, as far as a message about it goes, as it is when the message is sent."""

    approval_id: str
    action: str
    risk: Risk
    namespace: str
    rationale: str
    # Who proposed it, and what it replaces: they do not decide.
    proposers: Sequence[str]
    required_approvals: int
    # Approving decisions so far.
    approvals: int
    state: State
    create_time: datetime
    expire_time: datetime
    decide_time: datetime | None
    is_past_expiry: bool

    @property
    def waits(self) -> bool:
        """Whether it can still be decided."""
        return self.state is State.PENDING and not self.is_past_expiry
