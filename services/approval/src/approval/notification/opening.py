"""Notifications as they are configured: the jobs, the topic that sends them, the reminders."""

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from approval.delivery.topics import NOTIFY_TOPIC
from approval.notification.handler import NotificationHandler
from approval.notification.instructions import Instructions
from approval.notification.jobs import Notifications
from approval.notification.reminders import remind
from approval.notification.settings import NotificationSettings
from approval.policy.current_routes import CurrentRoutes
from approval.policy.reader import PolicyReader
from servicekit.notifications.opening import open_notifier
from servicekit.outbox.handler import Topic
from servicekit.outbox.transaction import Transactions
from servicekit.process.periodic import run_periodically

if TYPE_CHECKING:
    from servicekit.notifications.notifier import Notifier

# How long an attempt waits for the receivers.
_TIMEOUT = timedelta(seconds=15)
# Messages in flight at a time; each may wait for the turn of all others at a receiver.
_CONCURRENCY = 4
# For reading the approval before, and the routes.
_MARGIN = timedelta(seconds=2)
_REMINDER_CHECK_EVERY = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class OpenNotifications:
    """The notifications of a process; without a notifier they are disabled."""

    settings: NotificationSettings
    notifier: "Notifier | None"
    jobs: Notifications
    # The policy file, checked against the channels that there are; None without one.
    policy: PolicyReader | None

    def topics(self, transactions: Transactions, instructions: Instructions) -> list[Topic]:
        """Return the topic of the messages, apart from all that is delivered to the incident service; none when disabled."""
        if self.notifier is None:
            return []
        handler = NotificationHandler(
            transactions,
            self.notifier,
            read_routes=CurrentRoutes(self.policy).routes,
            instructions=instructions,
        )
        return [
            Topic(
                NOTIFY_TOPIC,
                handler,
                timeout=_TIMEOUT + _CONCURRENCY * self.settings.notify_interval + _MARGIN,
                # One at a time, so that a receiver that hangs on one message delays no other message's mark.
                max_batch=1,
                concurrency=_CONCURRENCY,
                only_requests=True,
            )
        ]

    def background(self, transactions: Transactions) -> Mapping[str, Coroutine[Any, Any, None]]:
        """Return the background work: the reminders, unless they are disabled."""
        after = self.settings.notify_remind_after
        if not self.jobs.enabled or not after:
            return {}
        work = partial(remind, transactions, self.jobs, after=after)
        return {"reminders": run_periodically("reminders", work, every=min(_REMINDER_CHECK_EVERY, after))}


def open_notifications(settings: NotificationSettings, *, policy_file: Path | None) -> OpenNotifications:
    """Return the notifications as configured; `policy_file` has their routes. Raises SettingsError."""
    notifier = open_notifier(
        settings.notify_urls,
        variable="APPROVAL_NOTIFY_URLS",
        timeout=_TIMEOUT,
        interval=settings.notify_interval,
        named=True,
    )
    channels = frozenset() if notifier is None else notifier.channels
    policy = None if policy_file is None else PolicyReader(policy_file, channels=channels)
    return OpenNotifications(settings, notifier, Notifications(enabled=notifier is not None), policy)
