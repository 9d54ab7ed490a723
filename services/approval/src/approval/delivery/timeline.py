"""What the incident's timeline is told of an approval, through the outbox."""

from approval.model import Approval, TimelineEntry, TimelineEvent
from servicekit.outbox.queue import Job, NewJob

TIMELINE_TOPIC = "incident.timeline"


def timeline_job(
    approval: Approval, event: TimelineEvent, *, summary: str = "", attributes: dict[str, str] | None = None
) -> NewJob:
    """Return the job that tells the incident's timeline what happens to `approval`, as it is before it happens.

    The event's id is made of the approval, its version and the event: delivered twice, it is one.
    """
    event_id = f"{approval.approval_id}/{approval.version}/{event.lower()}"
    return NewJob(
        TIMELINE_TOPIC,
        event_id,
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
