"""The job that delivers an entry to an incident's timeline: topic, key and payload."""

from datetime import datetime

from approval.delivery.model import TimelineEntry, TimelineEvent
from approval.delivery.topics import TIMELINE_TOPIC
from servicekit.outbox.queue import Job, NewJob


def timeline_job(entry: TimelineEntry) -> NewJob:
    """Return the job of an entry. Its key, the entry's id, makes enqueuing and delivery idempotent."""
    return NewJob(
        TIMELINE_TOPIC,
        entry.event_id,
        {
            "incident_id": entry.incident_id,
            "event": entry.event,
            "event_time": None if entry.event_time is None else entry.event_time.isoformat(),
            "summary": entry.summary,
            "attributes": entry.attributes,
        },
        entry.incident_id,
    )


def timeline_entry(job: Job) -> TimelineEntry:
    """Return the entry of a job."""
    payload = job.payload
    # Jobs of versions before this one have none.
    event_time = payload.get("event_time")
    return TimelineEntry(
        event_id=job.dedup_key,
        incident_id=payload["incident_id"],
        event=TimelineEvent(payload["event"]),
        event_time=None if event_time is None else datetime.fromisoformat(event_time),
        summary=payload["summary"],
        attributes=payload["attributes"],
    )
