"""The job that records an event of an approval on its incident's timeline: topic, key and payload."""

from collections.abc import Mapping

from approval.delivery.model import TimelineEntry, TimelineEvent
from approval.model import Approval
from servicekit.outbox.queue import Job, NewJob

TIMELINE_TOPIC = "incident.timeline"


def timeline_job(
    approval: Approval,
    event: TimelineEvent,
    *,
    summary: str = "",
    attributes: Mapping[str, str] | None = None,
) -> NewJob:
    """Return the job that records `event` of an approval, given as it was before the event.

    The event's id, made of the approval, its version and the event, makes delivery idempotent.
    """
    return NewJob(
        TIMELINE_TOPIC,
        f"{approval.approval_id}/{approval.version}/{event.lower()}",
        {
            "incident_id": approval.incident_id,
            "event": event,
            "summary": summary,
            "attributes": {"approval_id": approval.approval_id, **(attributes or {})},
        },
    )


def timeline_entry(job: Job) -> TimelineEntry:
    """Return the entry of a job."""
    payload = job.payload
    return TimelineEntry(
        event_id=job.dedup_key,
        incident_id=payload["incident_id"],
        event=TimelineEvent(payload["event"]),
        summary=payload["summary"],
        attributes=payload["attributes"],
    )
