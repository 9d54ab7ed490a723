"""Outbox handlers of the deliveries to the incident service."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from approval.delivery import resolve_repository
from approval.delivery.model import ResolutionType, ResolveIntent, TimelineEntry
from approval.delivery.resolve_job import resolve_intent
from approval.delivery.timeline_job import timeline_entry
from servicekit.outbox.handler import Handler
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction, Transactions
from servicekit.process.failpoints import failpoint

_log = structlog.get_logger()


class IncidentResolver(Protocol):
    """Resolves incidents at the incident service."""

    async def resolve(self, resolves: Sequence[ResolveIntent]) -> Sequence[bool | Exception]:
        """Resolve incidents and return, in order, whether each was resolved already or the error of its delivery."""


class IncidentTimelines(Protocol):
    """Records events on incidents' timelines at the incident service."""

    async def add_event(self, entry: TimelineEntry) -> Exception | None:
        """Record an entry, idempotent by its id; return None, or the error of the delivery."""


class TimelineHandler(Handler):
    """Records events of approvals on their incidents' timelines."""

    def __init__(self, incidents: IncidentTimelines) -> None:
        self._incidents = incidents

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        """Record each entry."""
        return await asyncio.gather(*(self._incidents.add_event(timeline_entry(job)) for job in jobs))


class ResolveHandler(Handler):
    """Resolves incidents of executed approvals: at-least-once, until the incident service acknowledges."""

    def __init__(self, transactions: Transactions, incidents: IncidentResolver) -> None:
        self._transactions = transactions
        self._incidents = incidents

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        """Resolve all in one call. An incident that was RESOLVED already is an acknowledgement like any other.

        Each resolve brings the timeline entries of its approval, read now: so do those that were enqueued by an import, a
        reconciliation or an older version.
        """
        intents = [resolve_intent(job) for job in jobs]
        async with self._transactions.statement() as connection:
            entries = await resolve_repository.read_entries(
                connection, [intent.approval_id for intent in intents]
            )
        intents = [replace(intent, entries=entries.get(intent.approval_id, ())) for intent in intents]
        outcomes = await self._incidents.resolve(intents)
        for intent, job, outcome in zip(intents, jobs, outcomes, strict=True):
            _log_resolve(intent, job.attempts, outcome)
        failpoint("resolve_acknowledged")
        return [outcome if isinstance(outcome, Exception) else None for outcome in outcomes]

    async def complete(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        """Record the acknowledgement on the approvals."""
        await resolve_repository.acknowledge(transaction, [resolve_intent(job).approval_id for job in jobs])


def _log_resolve(intent: ResolveIntent, attempts: int, outcome: bool | Exception) -> None:
    path = "no_action" if intent.resolution_type is ResolutionType.NO_ACTION else "auto_repair"
    facts: Mapping[str, object] = {
        "approval_id": intent.approval_id,
        "incident_id": intent.incident_id,
        "path": path,
    }
    if isinstance(outcome, Exception):
        _log.warning(
            f"incident_resolve_after_{path}_execution_failed", error=str(outcome), attempts=attempts, **facts
        )
    else:
        _log.info(f"incident_resolved_after_{path}_execution", already_resolved=outcome, **facts)
