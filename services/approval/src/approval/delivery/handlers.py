"""What the outbox does for this service: executes what was approved, and tells the incident service."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from approval.delivery.repository import RESOLVE_TOPIC, resolve_intent
from approval.delivery.timeline import TIMELINE_TOPIC, timeline_entry
from approval.errors import ApprovalError, ExecutorMissingError, IncidentUnreachableError
from approval.execution.use_cases import Executions
from approval.lifecycle import repository
from approval.lifecycle.use_cases import EXECUTE_TOPIC
from approval.model import Execute, ResolutionType, ResolveIntent, TimelineEntry
from servicekit.outbox.handler import Handler, Topic
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction
from servicekit.process.failpoints import failpoint

_log = structlog.get_logger()
# Resolves that go as one call when many are due, and such calls in flight at a time.
_RESOLVE_BATCH = 100
_RESOLVE_CALLS = 4
# Timeline entries written at a time, each by a call of its own.
_TIMELINE_BATCH = 16


class IncidentResolver(Protocol):
    """Resolves incidents at the incident service."""

    async def resolve(self, resolves: Sequence[ResolveIntent]) -> Sequence[bool | Exception]:
        """Resolve incidents: whether each was resolved already, or its error, in order."""


class IncidentTimelines(Protocol):
    """Writes on incidents' timelines at the incident service."""

    async def add_event(self, entry: TimelineEntry) -> Exception | None:
        """Write an entry, once however often: None when it is there, or why it is not."""


class TimelineHandler(Handler):
    """Tells incidents' timelines what happens to their approvals."""

    def __init__(self, incidents: IncidentTimelines) -> None:
        self._incidents = incidents

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        """Write each entry."""
        return await asyncio.gather(*(self._incidents.add_event(timeline_entry(job)) for job in jobs))


class ExecuteHandler(Handler):
    """Executes approvals that were approved with `auto_execute`.

    The execution is a transaction of its own and answers a repetition with the stored outcome, so a worker that dies
    between it and the mark changes nothing.
    """

    def __init__(self, executions: Executions) -> None:
        self._executions = executions

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        """Execute each approval; they join one transaction."""
        return await asyncio.gather(*(self._execute(job.payload["approval_id"]) for job in jobs))

    async def _execute(self, approval_id: str) -> Exception | None:
        try:
            # An operation is only started here: from then on it has a lease of its own.
            await self._executions.execute(Execute(approval_id), wait=False)
        except (IncidentUnreachableError, ExecutorMissingError) as exc:
            # Tried again until it expires: another replica may have the executor that this one was started without.
            return exc
        except ApprovalError as exc:
            # Cancelled, expired or changed since it was approved: there is nothing left to do.
            _log.info("background_execution_dropped", approval_id=approval_id, reason=str(exc))
        except Exception as exc:
            return exc
        return None


class ResolveHandler(Handler):
    """Tells the incident service that incidents are resolved, until it acknowledges."""

    def __init__(self, incidents: IncidentResolver, *, counter_shard: int) -> None:
        self._incidents = incidents
        self._counter_shard = counter_shard

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        """Resolve all in one call. RESOLVED already is an acknowledgement as good as any."""
        outcomes = await self._incidents.resolve([resolve_intent(job) for job in jobs])
        for job, outcome in zip(jobs, outcomes, strict=True):
            _log_resolve(job, outcome)
        failpoint("resolve_acknowledged")
        return [outcome if isinstance(outcome, Exception) else None for outcome in outcomes]

    async def complete(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        """Note on the approvals that the incident service knows."""
        await repository.acknowledge(
            transaction.connection, [job.payload["approval_id"] for job in jobs], shard=self._counter_shard
        )


class IncidentService(IncidentResolver, IncidentTimelines, Protocol):
    """The incident service, as far as the outbox needs it."""


def topics(
    executions: Executions,
    incidents: IncidentService,
    *,
    resolve_timeout: timedelta,
    counter_shard: int,
) -> Sequence[Topic]:
    """Return this service's topics. `resolve_timeout` is the client's own; the handler's is a little longer."""
    return [
        Topic(EXECUTE_TOPIC, ExecuteHandler(executions)),
        Topic(TIMELINE_TOPIC, TimelineHandler(incidents), max_batch=_TIMELINE_BATCH, concurrency=2),
        Topic(
            RESOLVE_TOPIC,
            ResolveHandler(incidents, counter_shard=counter_shard),
            timeout=resolve_timeout + timedelta(seconds=2),
            max_batch=_RESOLVE_BATCH,
            concurrency=_RESOLVE_CALLS,
        ),
    ]


def _log_resolve(job: Job, outcome: bool | Exception) -> None:
    no_action = job.payload["resolution_type"] == ResolutionType.NO_ACTION
    what = "no_action" if no_action else "auto_repair"
    facts: Mapping[str, object] = {
        "approval_id": job.payload["approval_id"],
        "incident_id": job.payload["incident_id"],
        "path": what,
    }
    if isinstance(outcome, Exception):
        _log.warning(
            f"incident_resolve_after_{what}_execution_failed",
            error=str(outcome),
            attempts=job.attempts,
            **facts,
        )
    else:
        _log.info(f"incident_resolved_after_{what}_execution", already_resolved=outcome, **facts)
