"""The job that resolves an approval's incident: topic, key and payload."""

from approval.delivery.model import ResolutionType, ResolveIntent
from servicekit.outbox.jobs import JobRecord
from servicekit.outbox.queue import Job, NewJob

RESOLVE_TOPIC = "incident.resolve"


def resolve_job(intent: ResolveIntent) -> NewJob:
    """Return the job of an intent. Its key, the approval's id, makes enqueuing it idempotent."""
    return NewJob(
        RESOLVE_TOPIC,
        intent.approval_id,
        {
            "approval_id": intent.approval_id,
            "incident_id": intent.incident_id,
            "resolution_type": intent.resolution_type,
            "action": intent.action,
        },
    )


def resolve_intent(job: Job | JobRecord) -> ResolveIntent:
    """Return the intent of a job."""
    payload = job.payload
    return ResolveIntent(
        payload["approval_id"],
        payload["incident_id"],
        ResolutionType(payload["resolution_type"]),
        payload["action"],
    )
