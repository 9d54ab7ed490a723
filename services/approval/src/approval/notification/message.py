"""The text of a message about an approval."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from approval.model import NotificationEvent
from approval.notification.instructions import Instructions
from approval.notification.model import NotificationIntent, Subject
from servicekit.formatting import as_line, format_duration, shorten
from servicekit.notifications.message import Level, Message

_MAX_RATIONALE_CHARACTERS = 500

_TITLES: Final[Mapping[NotificationEvent, str]] = {
    NotificationEvent.PENDING: "Approval needed",
    NotificationEvent.REMINDER: "Approval still needed",
    NotificationEvent.APPROVED: "Approved",
    NotificationEvent.AUTO_APPROVED: "Approved by a rule",
    NotificationEvent.REJECTED: "Rejected",
    NotificationEvent.CANCELLED: "Cancelled",
    NotificationEvent.SUPERSEDED: "Superseded",
    NotificationEvent.EXPIRED: "Expired",
    NotificationEvent.NOT_RECOVERED: "Executed, not recovered",
}
_LEVELS: Final[Mapping[NotificationEvent, Level]] = {
    NotificationEvent.PENDING: "warning",
    NotificationEvent.REMINDER: "warning",
    NotificationEvent.APPROVED: "success",
    NotificationEvent.AUTO_APPROVED: "success",
    NotificationEvent.EXPIRED: "failure",
    NotificationEvent.NOT_RECOVERED: "failure",
}
# A person is to act.
_REQUESTS = frozenset({NotificationEvent.PENDING, NotificationEvent.REMINDER})


def format_message(
    intent: NotificationIntent, subject: Subject, instructions: Instructions, approvers: Sequence[str]
) -> Message:
    """Return the message; `approvers` are the people who are to decide."""
    facts = [f"{intent.approval_id}, risk {subject.risk}, incident {intent.incident_id}"]
    details: list[str] = []
    if intent.event not in _REQUESTS:
        facts.append(_what_happened(intent, subject))
        if intent.reason:
            details.append(f"Reason: {as_line(intent.reason)}")
    elif subject.waits:
        facts += _request(intent, subject, instructions, approvers)
        details.append(instructions.how_to_decide(intent.approval_id, intent.incident_id))
    else:
        # A receiver was away meanwhile.
        state = "EXPIRED" if subject.is_past_expiry else subject.state
        facts.append(f"No decision is needed any more: it is {state}")
    if subject.rationale:
        details.append(f"Rationale: {shorten(subject.rationale.strip(), _MAX_RATIONALE_CHARACTERS)}")
    return Message(
        f"{_TITLES[intent.event]}: {as_line(subject.action)}",
        "\n".join(facts),
        "\n".join(details),
        intent.message_id,
        level=_LEVELS.get(intent.event, "info"),
    )


def _request(
    intent: NotificationIntent, subject: Subject, instructions: Instructions, approvers: Sequence[str]
) -> Sequence[str]:
    lines = [f"Expires {_shown(subject.expire_time)}"]
    if intent.event is NotificationEvent.REMINDER:
        lines[0] += f", waits for {format_duration(intent.event_time - subject.create_time)}"
    if approvers:
        lines.append(f"Asked to decide: {', '.join(approvers)}")
    quorum = ""
    if subject.required_approvals > 1:
        quorum = f"; {subject.required_approvals} approvals needed, {subject.approvals} given"
    lines.append(
        f"May decide: {instructions.who_may_decide([as_line(name) for name in subject.proposers])}{quorum}"
    )
    return lines


def _what_happened(intent: NotificationIntent, subject: Subject) -> str:
    if intent.event is NotificationEvent.NOT_RECOVERED:
        return (
            "The operation worked, and the incident stays open: propose another action, or resolve it by hand"
        )
    if intent.event is not NotificationEvent.EXPIRED:
        passed = format_duration(intent.event_time - subject.create_time)
        return f"By {as_line(intent.actor)}, {passed} after it was proposed"
    if subject.decide_time is not None and subject.decide_time < subject.expire_time:
        return f"It was approved and not executed until {_shown(subject.expire_time)}"
    return f"It was not decided until {_shown(subject.expire_time)}"


def _shown(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
