"""The job that resolves an approval's incident: topic, key and payload."""

from datetime import datetime

from approval.delivery.model import ResolutionType, ResolveIntent
from approval.delivery.topics import RESOLVE_TOPIC
from approval.model import Approval
from servicekit.outbox.jobs import JobRecord
from servicekit.outbox.queue import Job, NewJob


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
            "opening": intent.opening,
            "execute_time": None if intent.execute_time is None else intent.execute_time.isoformat(),
        },
        intent.incident_id,
    )


def executed_intent(approval: Approval, resolution_type: ResolutionType) -> ResolveIntent:
    """Return the intent to resolve the incident of an approval that was executed."""
    return ResolveIntent(
        approval.approval_id,
        approval.incident_id,
        resolution_type,
        approval.action,
        approval.incident_opening,
        approval.execute_time,
    )


def resolve_intent(job: Job | JobRecord) -> ResolveIntent:
    """Return the intent of a job."""
    payload = job.payload
    # Jobs of versions before openings have neither of the last two.
    execute_time = payload.get("execute_time")
    return ResolveIntent(
        payload["approval_id"],
        payload["incident_id"],
        ResolutionType(payload["resolution_type"]),
        payload["action"],
        payload.get("opening", 0),
        None if execute_time is None else datetime.fromisoformat(execute_time),
    )
