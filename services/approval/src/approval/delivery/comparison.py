"""Compares approvals with what the incident service has.

An acknowledgement is trusted as long as both databases live. After a restore of the incident database an incident may be
unresolved again, or not there at all. The first is withdrawn, so that its resolve is delivered again; the second is marked:
listed, counted and alerted on. An incident that a person has reopened is left open: the incident service says so itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from approval.delivery import comparison_repository
from approval.delivery.model import ComparedApproval, LookedUp, Position
from servicekit.audit.model import Call
from servicekit.outbox.transaction import Transactions

_log = structlog.get_logger()
# As many as the incident service looks up in one call.
_BATCH = 1000
# The batches of a period as long as nothing differs: 10,000 approvals every few minutes.
_BATCHES_A_PERIOD = 10
_MAX_LOGGED = 10


class IncidentLookup(Protocol):
    """Looks incidents up at the incident service."""

    async def look_up(self, approvals: Sequence[ComparedApproval]) -> Sequence[LookedUp] | None:
        """Return what is known of each approval's incident, in order; None when the service does not say."""


@dataclass(frozen=True, slots=True)
class Differences:
    """The approvals of a batch whose incident was set back, and whose is unknown since; and where the next one begins."""

    compared: int
    set_back: Sequence[str]
    unknown: Sequence[str]
    next_position: Position | None

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self.set_back or self.unknown)


class Comparison:
    """Compares a batch of approvals at a time, those that changed last first: they are what a restore loses."""

    def __init__(self, transactions: Transactions, incidents: IncidentLookup, *, batch: int = _BATCH) -> None:
        self._transactions = transactions
        self._incidents = incidents
        self._batch = batch
        # The periodic comparison's place: where it goes on, how many batches it still takes, None between periods, and
        # whether it has found differences, so that it does not stop before the end.
        self._position: Position | None = None
        self._batches_left: int | None = None
        self._is_thorough = False

    async def compare(
        self, after: Position | None, *, call: Call, dry_run: bool = False
    ) -> Differences | None:
        """Compare the batch after a position and record what differs; None when the incident service does not say.

        Approvals that change meanwhile are left to the next comparison. A dry run records nothing.
        """
        async with self._transactions.statement() as connection:
            approvals, position = await comparison_repository.read_batch(connection, after, limit=self._batch)
        found = await self._incidents.look_up(approvals) if approvals else ()
        if found is None:
            return None
        pairs = list(zip(approvals, found, strict=True))
        set_back = [each for each, incident in pairs if each.is_acknowledged and incident.is_resolvable]
        unknown = [each for each, incident in pairs if not incident.is_known and not each.is_unknown]
        known = [
            each
            for each, incident in pairs
            if incident.is_known and each.is_unknown and not (each.is_acknowledged and incident.is_resolvable)
        ]
        if dry_run or not (set_back or unknown or known):
            return Differences(len(approvals), _ids(set_back), _ids(unknown), position)
        async with self._transactions.begin() as transaction:
            withdrawn = await comparison_repository.withdraw_acknowledgements(transaction, set_back)
            marked = await comparison_repository.mark_unknown(transaction, unknown)
            unmarked = await comparison_repository.mark_known(transaction, known)
            if changed := [*withdrawn, *marked, *unmarked]:
                transaction.record(call, *changed)
        if withdrawn:
            _log.error("incidents_set_back", approvals=len(withdrawn), first=withdrawn[:_MAX_LOGGED])
        if marked:
            _log.error("incidents_unknown", approvals=len(marked), first=marked[:_MAX_LOGGED])
        return Differences(len(approvals), withdrawn, marked, position)

    async def compare_next(self, call: Call) -> bool:
        """Compare the next batch of the periodic comparison; returns whether to go on at once.

        Every period begins with what changed last. Without differences a few batches more follow, from where the last
        period ended; with some, all the rest.
        """
        if self._batches_left is None:
            self._batches_left = _BATCHES_A_PERIOD
            if self._position is not None:
                latest = await self.compare(None, call=call)
                if latest is not None and latest.any:
                    self._is_thorough = True
                    self._position = latest.next_position
                self._end_period(is_over=latest is None or self._position is None)
                return self._batches_left is not None
        differences = await self.compare(self._position, call=call)
        if differences is not None:
            self._is_thorough |= differences.any
            self._position = differences.next_position
            self._batches_left -= 1
        self._end_period(
            is_over=differences is None
            or self._position is None
            or (self._batches_left <= 0 and not self._is_thorough)
        )
        return self._batches_left is not None

    def _end_period(self, *, is_over: bool) -> None:
        if is_over:
            self._batches_left = None
            # An incident service that does not answer is not the end.
            self._is_thorough &= self._position is not None


def _ids(approvals: Sequence[ComparedApproval]) -> Sequence[str]:
    return [approval.approval_id for approval in approvals]
