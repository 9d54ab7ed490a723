"""The job that executes an approval: topic, key and payload."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from approval.delivery.topics import EXECUTE_TOPIC
from approval.model import Approval, OperationKind, can_be_executed
from servicekit.outbox.queue import Job, NewJob


@dataclass(frozen=True, slots=True)
class ExecutionIntent:
    """The intent to execute an approval without another call."""

    approval_id: str


def execution_jobs(approval: Approval, executable: Collection[OperationKind]) -> Sequence[NewJob]:
    """Return the job of a newly APPROVED approval; none when it waits for a call or for an executor."""
    if not approval.auto_execute or not can_be_executed(approval.operation, executable):
        return []
    payload = {"approval_id": approval.approval_id}
    return [NewJob(EXECUTE_TOPIC, approval.approval_id, payload, approval.incident_id)]


def execution_intent(job: Job) -> ExecutionIntent:
    """Return the intent of a job."""
    return ExecutionIntent(job.payload["approval_id"])
