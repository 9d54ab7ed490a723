"""The entries about an approval for its incident's timeline.

They are made of what is stored and does not change any more: the same entry can be made again later, with the same id.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from approval.delivery.model import TimelineEntry, TimelineEvent


def entry(
    approval_id: str,
    incident_id: str,
    event: TimelineEvent,
    event_time: datetime | None,
    *,
    summary: str = "",
    attributes: Mapping[str, str] | None = None,
) -> TimelineEntry:
    """Return the entry about what happened to an approval, and when."""
    if event_time is None:
        raise ValueError(f"{event} has no time")
    # With the time: an approval whose database was set back to a backup may come to the same state again.
    when = event_time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return TimelineEntry(
        event_id=f"{approval_id}/{event.lower()}/{when}",
        incident_id=incident_id,
        event=event,
        event_time=event_time,
        summary=summary,
        attributes={"approval_id": approval_id, **(attributes or {})},
    )


def proposed(
    approval_id: str,
    incident_id: str,
    create_time: datetime,
    *,
    action: str,
    proposed_by: str,
    supersedes: str = "",
) -> TimelineEntry:
    """Return the entry about the proposal of an action; `supersedes` is the approval that it replaces."""
    replaced = {"supersedes": supersedes} if supersedes else {}
    return entry(
        approval_id,
        incident_id,
        TimelineEvent.PROPOSED,
        create_time,
        summary=action,
        attributes={"proposed_by": proposed_by, **replaced},
    )


def superseded(
    approval_id: str, incident_id: str, cancel_time: datetime, *, superseded_by: str, action: str, actor: str
) -> TimelineEntry:
    """Return the entry about an approval that another one replaces; `action` is that one's."""
    return entry(
        approval_id,
        incident_id,
        TimelineEvent.CANCELLED,
        cancel_time,
        summary=f"superseded: {action}",
        attributes={"actor": actor, "superseded_by": superseded_by},
    )


def approved(
    approval_id: str,
    incident_id: str,
    decide_time: datetime | None,
    *,
    approved_by: str,
    reason: str,
    policy_rule: str,
) -> TimelineEntry:
    """Return the entry about the approval, by the decision that reached the quorum."""
    rule = {"policy_rule": policy_rule} if policy_rule else {}
    return entry(
        approval_id,
        incident_id,
        TimelineEvent.APPROVED,
        decide_time,
        summary=reason,
        attributes={"approved_by": approved_by, **rule},
    )


def recovered(
    approval_id: str, incident_id: str, recovery_time: datetime | None, *, message: str
) -> TimelineEntry:
    """Return the entry about the alert that was gone after the execution."""
    return entry(approval_id, incident_id, TimelineEvent.RECOVERED, recovery_time, summary=message)


def executed(
    approval_id: str, incident_id: str, finish_time: datetime | None, *, action: str, executor: str
) -> TimelineEntry:
    """Return the entry about the execution that succeeded; `executor` is empty when it needed none."""
    return entry(
        approval_id,
        incident_id,
        TimelineEvent.EXECUTED,
        finish_time,
        summary=action,
        attributes={"executor": executor} if executor else {},
    )
