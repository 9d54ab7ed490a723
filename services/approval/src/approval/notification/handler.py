"""Sends messages about approvals: at least once, with the same id at every attempt."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import structlog

from approval.model import NotificationEvent
from approval.notification import repository
from approval.notification.instructions import Instructions
from approval.notification.jobs import notification_intent
from approval.notification.message import format_message
from approval.policy.routes import Routes
from servicekit.notifications.message import Message
from servicekit.outbox.handler import Handler
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transactions

_log = structlog.get_logger()


class Sender(Protocol):
    """Sends messages to the receivers of channels."""

    async def send(
        self, message: Message, *, progress: Mapping[str, Any], channels: Collection[str] | None
    ) -> None:
        """Send to the receivers of these channels (None: all) that no earlier attempt has notified.

        Raises PermanentError when a retry would be refused too, DeliveryError when a retry may succeed.
        """


class NotificationHandler(Handler):
    """Sends the message of each job to the channels of the routes in force."""

    def __init__(
        self,
        transactions: Transactions,
        sender: Sender,
        *,
        read_routes: Callable[[], Awaitable[Routes]],
        instructions: Instructions,
    ) -> None:
        """`read_routes` is called for each message: the file may have changed since the last one."""
        self._transactions = transactions
        self._sender = sender
        self._read_routes = read_routes
        self._instructions = instructions

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        """Send each message."""
        return [await self._deliver(job) for job in jobs]

    async def _deliver(self, job: Job) -> Exception | None:
        intent = notification_intent(job)
        async with self._transactions.statement() as connection:
            subject = await repository.get_subject(connection, intent.approval_id)
        facts = {"approval_id": intent.approval_id, "event_kind": intent.event}
        if subject is None:
            _log.warning("notification_dropped", reason="the approval was removed", **facts)
            return None
        if intent.event is NotificationEvent.REMINDER and not subject.waits:
            _log.info("notification_dropped", reason="it was decided meanwhile", **facts)
            return None
        routed = (await self._read_routes()).find(subject.risk, subject.namespace, intent.event)
        if routed.channels is not None and not routed.channels:
            return None
        message = format_message(intent, subject, self._instructions, routed.approvers)
        try:
            await self._sender.send(message, progress=job.payload, channels=routed.channels)
        except Exception as exc:
            return exc
        return None
