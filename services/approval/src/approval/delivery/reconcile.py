"""Queues the resolves of approvals that were executed, not acknowledged, and have no open or dismissed delivery.

The outbox does not lose intents. This repairs what is outside its reach: a row removed by hand, imported approvals, a
restore of either database from a backup. What was acknowledged is first compared with what the incident service has.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from approval.delivery import comparison_repository, resolve_repository
from approval.delivery.comparison import Comparison
from approval.delivery.model import Position
from approval.delivery.resolve_job import resolve_job
from approval.delivery.topics import RESOLVE_TOPIC
from approval.model import OWN_ACTOR
from servicekit.audit.model import Call, background
from servicekit.outbox import jobs
from servicekit.outbox.transaction import Transactions

_log = structlog.get_logger()
_BATCH = 1000
_MAX_LISTED = 1000
_PERIODIC = background("reconciliation", OWN_ACTOR)


@dataclass(slots=True)
class Listed:
    """How many approvals there are of a kind, and the ids of the first thousand."""

    count: int = 0
    approval_ids: list[str] = field(default_factory=list)

    def add(self, approval_ids: Sequence[str]) -> None:
        """Add approvals."""
        self.count += len(approval_ids)
        self.approval_ids.extend(approval_ids[: _MAX_LISTED - len(self.approval_ids)])


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The approvals whose resolve was queued, and those whose incident is unknown.

    `is_compared` is False when the incident service did not say what it has of all.
    """

    queued: Listed
    unknown: Listed
    compared: int
    is_compared: bool


class Reconciler:
    """Finds and queues missing resolves."""

    def __init__(self, transactions: Transactions, comparison: Comparison) -> None:
        self._transactions = transactions
        self._comparison = comparison
        # They read all approvals: one at a time, however many are called for.
        self._one_at_a_time = asyncio.Lock()

    async def find(self) -> Reconciliation:
        """Return what `reconcile` would do; nothing is written. Of approvals that were never acknowledged the first thousand."""
        async with self._one_at_a_time:
            return await self._find()

    async def _find(self) -> Reconciliation:
        queued, unknown = Listed(), Listed()
        async with self._transactions.statement() as connection:
            missing = await resolve_repository.find_unacknowledged(connection, limit=_BATCH)
            unknown.add(await comparison_repository.list_unknown(connection, limit=_MAX_LISTED))
            unknown.count = await comparison_repository.count_unknown(connection)
        queued.add([intent.approval_id for intent in missing])
        compared, is_compared = await self._compare_all(
            _PERIODIC, dry_run=True, set_back=queued, unknown=unknown
        )
        return Reconciliation(queued, unknown, compared, is_compared)

    async def reconcile(self, *, call: Call, accepts_unknown: bool = False) -> Reconciliation:
        """Compare all approvals, and queue all missing resolves. Idempotent, also in concurrent calls.

        An approval has one delivery. With `accepts_unknown` the unknown incidents are accepted as lost, by the caller.
        """
        async with self._one_at_a_time:
            return await self._reconcile(call, accepts_unknown=accepts_unknown)

    async def _reconcile(self, call: Call, *, accepts_unknown: bool) -> Reconciliation:
        queued, unknown = Listed(), Listed()
        compared, is_compared = await self._compare_all(call, dry_run=False)
        has_more = True
        while has_more:
            batch, has_more = await self._queue_batch(call)
            queued.add(batch)
        async with self._transactions.statement() as connection:
            unknown.add(await comparison_repository.list_unknown(connection, limit=_MAX_LISTED))
            unknown.count = await comparison_repository.count_unknown(connection)
        if accepts_unknown:
            await self._accept_unknown(call)
        return Reconciliation(queued, unknown, compared, is_compared)

    async def _compare_all(
        self, call: Call, *, dry_run: bool, set_back: Listed | None = None, unknown: Listed | None = None
    ) -> tuple[int, bool]:
        """Compare all approvals; return how many, and whether the incident service said what it has of them all."""
        compared = 0
        position: Position | None = None
        while True:
            found = await self._comparison.compare(position, call=call, dry_run=dry_run)
            if found is None:
                return compared, False
            compared += found.compared
            if set_back is not None and unknown is not None:
                set_back.add(found.set_back)
                unknown.add(found.unknown)
            position = found.next_position
            if position is None:
                return compared, True

    async def _accept_unknown(self, call: Call) -> None:
        has_more = True
        while has_more:
            async with self._transactions.begin() as transaction:
                accepted = await comparison_repository.accept_unknown(
                    transaction, actor=call.actor, limit=_BATCH
                )
                if accepted:
                    transaction.record(call, *accepted)
            has_more = len(accepted) == _BATCH
            if accepted:
                _log.warning("unknown_incidents_accepted", approvals=len(accepted), actor=call.actor)

    async def reconcile_batch(self) -> bool:
        """Compare a batch of approvals and queue a batch of missing resolves; returns whether there may be more."""
        async with self._one_at_a_time:
            compares_more = await self._comparison.compare_next(_PERIODIC)
            _, queues_more = await self._queue_batch(_PERIODIC)
        return compares_more or queues_more

    async def _queue_batch(self, call: Call) -> tuple[Sequence[str], bool]:
        """Queue a batch; return the ids of the approvals that were queued, and whether there may be more."""
        async with self._transactions.begin() as transaction:
            missing = await resolve_repository.find_unacknowledged(
                transaction.connection, limit=_BATCH, for_update=True
            )
            if missing:
                transaction.record(call, *(intent.approval_id for intent in missing))
                # A delivery that is DONE while its approval is unacknowledged: the two were restored apart.
                await jobs.remove_ended(
                    transaction.connection, RESOLVE_TOPIC, [intent.approval_id for intent in missing]
                )
            transaction.enqueue(*(resolve_job(intent) for intent in missing))
        # A concurrent reconciliation may just have queued some of them.
        queued = [job.dedup_key for job in transaction.enqueued]
        if queued:
            _log.warning("reconciled", approvals=len(queued))
        return queued, len(missing) == _BATCH
