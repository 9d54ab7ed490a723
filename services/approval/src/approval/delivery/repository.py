"""Deliveries as an operator sees them: the outbox's jobs, listed, re-queued and dismissed. Nothing here commits."""

from collections.abc import Sequence
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from approval.delivery.model import Delivery, DeliveryDismissal, DeliveryState, DeliveryTopic
from approval.delivery.topics import (
    EXECUTE_TOPIC,
    NOTIFY_TOPIC,
    RESOLVE_TOPIC,
    TIMELINE_TOPIC,
    TOPIC_NAMES,
    delivery_topic,
)
from servicekit.outbox import dead_letters, jobs, open_jobs
from servicekit.outbox.jobs import JobRecord


def to_delivery(job: JobRecord) -> Delivery:
    """Return the delivery that a job is."""
    topic = delivery_topic(job.topic)
    dismissal = job.dismissal
    return Delivery(
        job.job_id,
        topic,
        job.dedup_key,
        job.text("attributes", "approval_id") if topic is DeliveryTopic.TIMELINE else job.text("approval_id"),
        job.incident_id or job.text("incident_id"),
        DeliveryState(job.state),
        job.attempts,
        job.last_error,
        job.create_time,
        job.next_attempt_time,
        job.done_time,
        job.requeued_by,
        None
        if dismissal is None
        else DeliveryDismissal(dismissal.actor, dismissal.reason, dismissal.dismiss_time),
    )


async def list_deliveries(
    connection: AsyncConnection,
    *,
    topics: Sequence[DeliveryTopic],
    states: Sequence[DeliveryState],
    approval_id: str,
    before: int | None,
    limit: int,
) -> Sequence[Delivery]:
    """Return at most `limit` deliveries, newest first, those older than the id `before` when given.

    Without `topics` these are the resolves, and what is PARKED or DISMISSED of every topic.
    """
    names = await _names(connection, topics) if topics else [RESOLVE_TOPIC]
    list_some = partial(
        jobs.list_jobs,
        connection,
        names,
        dead_letters=not topics,
        states=states,
        before=before,
        limit=limit,
    )
    if not approval_id:
        return [to_delivery(job) for job in await list_some()]
    found = list(await list_some(keys=[(RESOLVE_TOPIC, approval_id), (EXECUTE_TOPIC, approval_id)]))
    # Their keys begin with the approval's id.
    for topic in (TIMELINE_TOPIC, NOTIFY_TOPIC):
        found += await list_some(prefix=(topic, f"{approval_id}/"))
    newest = sorted(found, key=lambda job: -job.job_id)
    return [to_delivery(job) for job in newest[:limit]]


async def examined_to(
    connection: AsyncConnection, *, states: Sequence[DeliveryState], before: int | None
) -> int | None:
    """Return the id down to which a list of all approvals has looked that found fewer than its limit; None: at all."""
    return await jobs.examined_to(connection, states=states, before=before)


async def list_open(connection: AsyncConnection, *, limit: int, max_read: int) -> Sequence[Delivery]:
    """Return at most `limit` deliveries of every topic that are PARKED, then PENDING ones, oldest first.

    Of a state with more than `max_read`, these are the oldest of so many.
    """
    return [to_delivery(job) for job in await open_jobs.list_open(connection, limit=limit, max_read=max_read)]


async def requeue_parked(
    connection: AsyncConnection, topics: Sequence[DeliveryTopic], *, actor: str, limit: int
) -> Sequence[Delivery]:
    """Re-queue the longest PARKED deliveries of these topics (none: of every topic), at most `limit`."""
    names = await _names(connection, topics) if topics else None
    requeued = await dead_letters.requeue_parked(connection, names, actor=actor, limit=limit)
    return [to_delivery(job) for job in requeued]


async def _names(connection: AsyncConnection, topics: Sequence[DeliveryTopic]) -> Sequence[str]:
    names = [TOPIC_NAMES[topic] for topic in topics if topic in TOPIC_NAMES]
    if DeliveryTopic.OTHER in topics:
        # Those of another version: this version does not run them, so that none is DONE but what was dismissed.
        present = await open_jobs.list_topics(connection)
        names += [name for name in present if delivery_topic(name) is DeliveryTopic.OTHER]
    return names
