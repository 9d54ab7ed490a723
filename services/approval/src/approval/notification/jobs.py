"""The job that sends a message about an approval: topic, key and payload."""

from collections.abc import Sequence
from datetime import datetime

from approval.delivery.topics import NOTIFY_TOPIC
from approval.model import Approval, NotificationEvent
from approval.notification.model import NotificationIntent
from servicekit.formatting import shorten
from servicekit.outbox.queue import Job, NewJob

# Of a reason in a message.
_MAX_REASON_CHARACTERS = 500


class Notifications:
    """Makes the jobs of messages, to be enqueued in the transaction of what they are about."""

    def __init__(self, *, enabled: bool) -> None:
        """Disabled, where no channel is configured, there are no jobs."""
        self.enabled = enabled

    def jobs(
        self,
        approval: Approval,
        event: NotificationEvent,
        event_time: datetime | None,
        *,
        actor: str = "",
        reason: str = "",
    ) -> Sequence[NewJob]:
        """Return the job of the message that `event` happened to an approval.

        None when notifications are disabled, and about a canary, which needs no decision of a person.
        """
        if event_time is None:
            raise ValueError(f"{event} has no time")
        if approval.canary:
            return []
        intent = NotificationIntent(
            approval.approval_id, approval.incident_id, event, event_time, actor, reason
        )
        return self.jobs_of(intent)

    def jobs_of(self, intent: NotificationIntent) -> Sequence[NewJob]:
        """Return the job of an intent. Its key, the message's id, makes enqueuing it idempotent."""
        if not self.enabled:
            return []
        payload = {
            "approval_id": intent.approval_id,
            "incident_id": intent.incident_id,
            "event": intent.event,
            "event_time": intent.event_time.isoformat(),
            "actor": intent.actor,
            "reason": shorten(intent.reason, _MAX_REASON_CHARACTERS),
        }
        return [NewJob(NOTIFY_TOPIC, intent.message_id, payload, intent.incident_id)]


def notification_intent(job: Job) -> NotificationIntent:
    """Return the intent of a job. Other keys are ignored: the progress of its attempts is kept there."""
    payload = job.payload
    return NotificationIntent(
        payload["approval_id"],
        payload["incident_id"],
        NotificationEvent(payload["event"]),
        datetime.fromisoformat(payload["event_time"]),
        payload["actor"],
        payload["reason"],
    )
