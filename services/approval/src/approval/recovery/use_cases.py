"""Looks whether repairs have helped, and the result: the incident is resolved, or stays open with a notification.

A look holds no transaction: its lease, and that what it found is recorded by its holder alone, make it safe to be killed, to
be late and to run twice.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import assert_never

import structlog

from approval.delivery import timeline_entries
from approval.delivery.model import (
    FoundIncident,
    IncidentCheck,
    IncidentDirectory,
    ResolutionType,
    TimelineEvent,
)
from approval.delivery.resolve_job import executed_intent, resolve_job
from approval.delivery.timeline_job import timeline_job
from approval.lifecycle import repository
from approval.model import OWN_ACTOR, Approval, NotificationEvent, Recovery
from approval.notification.jobs import Notifications
from approval.recovery import repository as recovery_repository
from approval.recovery.model import ClaimedLook, Found, RecoveryRules, judge
from approval.verifiers.protocol import CannotTellError, Repair, Verifier
from servicekit.audit.model import background
from servicekit.outbox.queue import NewJob
from servicekit.outbox.transaction import Transactions
from servicekit.process.failpoints import failpoint
from servicekit.text import block

_log = structlog.get_logger()
# Looks at a time; each needs a connection when it is recorded.
_BATCH = 8
# Beside the time that a look may take: what is left of the lease to record it.
_MARGIN = timedelta(seconds=10)
# A process without a verifier leaves this time to those that have one.
_GRACE = timedelta(minutes=1)
_RESTORED = 1_000
_MAX_MESSAGE = 1_024


class Verification:
    """Recoveries over one database; without a verifier only those are ended that no process can verify any more."""

    def __init__(
        self,
        transactions: Transactions,
        verifier: Verifier | None,
        incidents: IncidentDirectory,
        rules: RecoveryRules,
        *,
        check_timeout: timedelta,
        notifications: Notifications,
    ) -> None:
        """`check_timeout` is that of the incident directory."""
        self._transactions = transactions
        self._verifier = verifier
        self._incidents = incidents
        self._rules = rules
        self._notifications = notifications
        self._lease = rules.timeout + check_timeout + _MARGIN

    async def look_batch(self) -> bool:
        """Look at what is due; returns whether there may be more."""
        async with self._transactions.statement() as connection:
            if self._verifier is None:
                due = await recovery_repository.claim(
                    connection, lease=self._lease, limit=_BATCH, overdue=_GRACE
                )
            else:
                due = await recovery_repository.claim(connection, lease=self._lease, limit=_BATCH)
            approvals = (
                await repository.get_many(connection, [look.approval_id for look in due]) if due else {}
            )
        failpoint("look_claimed")
        results = await asyncio.gather(
            *(self._look(look, approvals[look.approval_id]) for look in due if look.approval_id in approvals),
            return_exceptions=True,
        )
        for result in results:
            # All have ended; what was not recorded is due again when its lease ends.
            if isinstance(result, BaseException):
                raise result
        return len(due) == _BATCH

    async def restore(self) -> bool:
        """Have PENDING recoveries looked at that no process looks at; returns whether there may be more."""
        async with self._transactions.begin() as transaction:
            restored = await recovery_repository.restore(transaction.connection, limit=_RESTORED)
        if restored:
            _log.warning("recoveries_restored", approvals=len(restored))
        return len(restored) == _RESTORED

    async def _look(self, look: ClaimedLook, approval: Approval) -> None:
        found = await self._find(look, approval)
        failpoint("look_done")
        async with self._transactions.begin() as transaction:
            standing = await recovery_repository.get_for_update(transaction.connection, look)
            if standing is None:
                return
            judgement = judge(standing, found, looks=self._rules.looks)
            if judgement.recovery is Recovery.PENDING:
                await recovery_repository.go_on(
                    transaction.connection,
                    look,
                    judgement,
                    reports=found.reports,
                    interval=self._rules.interval,
                )
            else:
                message = _shown(judgement.message)
                if not await recovery_repository.end(transaction, look, judgement.recovery, message=message):
                    return
                transaction.record(background("recovery", OWN_ACTOR), look.approval_id)
                ended = await repository.get(transaction.connection, look.approval_id)
                transaction.enqueue(*_jobs(ended))
                # Where another operation for the incident has taken over, no person is needed yet.
                if ended.recovery is Recovery.NOT_RECOVERED and not standing.later_approval_id:
                    transaction.enqueue(*self._tell(ended))
            failpoint("look_before_commit")
        _log.info(
            "recovery_look",
            approval_id=look.approval_id,
            incident_id=look.incident_id,
            recovery=judgement.recovery,
            gone=found.gone,
            message=_shown(judgement.message or found.message),
        )

    def _tell(self, ended: Approval) -> Sequence[NewJob]:
        return self._notifications.jobs(
            ended,
            NotificationEvent.NOT_RECOVERED,
            ended.recovery_time,
            actor=OWN_ACTOR,
            reason=ended.recovery_message,
        )

    async def _find(self, look: ClaimedLook, approval: Approval) -> Found:
        """Look once. An error of any kind means undetermined."""
        if self._verifier is None:
            return Found(None, "no verifier is configured")
        incident = await self._incidents.find(look.incident_id)
        match incident.check:
            case IncidentCheck.UNREACHABLE:
                return Found(None, "the incident service could not be reached")
            case IncidentCheck.UNKNOWN:
                return Found(None, "the incident service does not know the incident")
            case IncidentCheck.UNRESOLVED | IncidentCheck.RESOLVED:
                # Also of an incident that was resolved meanwhile: the question is whether the repair has helped.
                return await self._ask(self._verifier, approval, incident)
            case other:
                assert_never(other)

    async def _ask(self, verifier: Verifier, approval: Approval, incident: FoundIncident) -> Found:
        if approval.operation is None or approval.finish_time is None:
            return Found(None, "no operation was executed")
        repair = Repair(
            approval.approval_id,
            approval.incident_id,
            approval.operation,
            approval.finish_time,
            incident.fingerprint,
            incident.source,
            incident.labels,
        )
        bound = asyncio.timeout(self._rules.timeout.total_seconds())
        try:
            async with bound:
                seen = await verifier.look(repair)
                return Found(bool(seen.gone), str(seen.message), incident.reports)
        except CannotTellError as exc:
            return Found(None, str(exc), incident.reports)
        except Exception as exc:
            if bound.expired():
                seconds = self._rules.timeout.total_seconds()
                return Found(None, f"no answer within {seconds:g} s", incident.reports)
            _log.error("verifier_bug", approval_id=approval.approval_id, exc_info=exc)
            return Found(None, "internal error of the verifier", incident.reports)


def _jobs(ended: Approval) -> Sequence[NewJob]:
    """Return what follows from a recovery that has ended."""
    if ended.recovery is Recovery.VERIFIED:
        recovered = timeline_entries.recovered(
            ended.approval_id, ended.incident_id, ended.recovery_time, message=ended.recovery_message
        )
        return [timeline_job(recovered), resolve_job(executed_intent(ended, ResolutionType.AUTO_REPAIRED))]
    not_recovered = timeline_entries.entry(
        ended.approval_id,
        ended.incident_id,
        TimelineEvent.NOT_RECOVERED,
        ended.recovery_time,
        summary=ended.recovery_message,
    )
    return [timeline_job(not_recovered)]


def _shown(message: str) -> str:
    """Return what of a verifier's message is stored: text that can be shown and that the database takes, cut at a limit."""
    return block(message).replace("\0", "\N{REPLACEMENT CHARACTER}")[:_MAX_MESSAGE]
