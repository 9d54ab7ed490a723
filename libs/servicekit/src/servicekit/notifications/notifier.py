"""Notifies people through Apprise: Telegram, Slack, mail and some hundred others, by URL.

Apprise is synchronous, may sleep, and returns only whether it worked. So each send has a thread and a plugin instance of
its own (an instance keeps state between sends), and Apprise's log, whose texts may quote URLs, is parsed for HTTP statuses
and not propagated.
"""

import asyncio
import contextlib
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import apprise
import structlog

from servicekit.notifications.message import Message
from servicekit.notifications.receiver_rules import prepare
from servicekit.notifications.receivers import Receiver, parse_receivers
from servicekit.notifications.statuses import capture_statuses
from servicekit.outbox.handler import DeliveryError, PermanentError

_log = structlog.get_logger()

# Threads for each URL: a receiver that hangs uses up its own only.
_MAX_SENDS = 8
# How long the outcome of a send that ended after the timeout is kept for the next attempt; the longest backoff is a minute.
_KEEP_OUTCOME_SECONDS = 600.0
# 4xx: a retry would be refused too; except timeout, "too early" and "too many requests", which are transient.
_REFUSALS = frozenset(range(400, 500)) - {408, 425, 429}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a send: `problem` is empty when it worked; `refused` when a retry would be refused too."""

    problem: str = ""
    refused: bool = False


class Notifier:
    """Sends messages to the receivers of its URLs."""

    def __init__(
        self, urls: str, *, timeout: timedelta, interval: timedelta = timedelta(0), named: bool = False
    ) -> None:
        """`urls` are as `parse_receivers` takes them. `timeout` is how long a try waits for all of them.

        `interval` is the time between two messages to a receiver: an attempt waits for its turn, before its timeout begins.
        Raises NotifyUrlError, TooManyUrlsError.
        """
        self._timeout = timeout.total_seconds()
        self._interval = interval.total_seconds()
        self._statuses = capture_statuses()
        self._asset = apprise.AppriseAsset(
            app_id="awoooi",
            # A redirect would carry the token in a URL or header to a host that the receiver chooses.
            http_redirects=False,
            secure_logging=True,
            storage_mode=apprise.PersistentStoreMode.MEMORY,
        )
        self._receivers = parse_receivers(urls, self._asset, named=named)
        # Sends continue in their threads after the timeout. The next attempt of the same job waits for them.
        self._sends: dict[tuple[str, str], asyncio.Future[Outcome]] = {}

    @property
    def channels(self) -> frozenset[str]:
        """The channels of all receivers."""
        return frozenset().union(*(receiver.channels for receiver in self._receivers))

    async def send(
        self,
        message: Message,
        *,
        progress: Mapping[str, Any],
        channels: Collection[str] | None = None,
    ) -> None:
        """Notify the receivers of these channels (None: all), except those that an earlier attempt has notified.

        `progress` is the merged progress of the errors of earlier attempts. When some failed, raises PermanentError if each
        of them refused permanently, else DeliveryError; its progress has the keys of those that are notified by now.
        """
        notified = frozenset(progress.get("notified", ()))
        waiting = [
            receiver
            for receiver in self._receivers
            if receiver.key not in notified and (channels is None or receiver.channels & set(channels))
        ]
        outcomes = await asyncio.gather(*(self._outcome(receiver, message) for receiver in waiting))
        pairs = list(zip(waiting, outcomes, strict=True))
        failed = [(receiver, outcome) for receiver, outcome in pairs if outcome.problem]
        if not failed:
            return
        notified |= {receiver.key for receiver, outcome in pairs if not outcome.problem}
        text = "; ".join(f"{receiver.name}: {outcome.problem}" for receiver, outcome in failed)
        error = PermanentError if all(outcome.refused for _, outcome in failed) else DeliveryError
        raise error(
            text, progress={"notified": [each.key for each in self._receivers if each.key in notified]}
        )

    async def _outcome(self, receiver: Receiver, message: Message) -> Outcome:
        key = (message.message_id, receiver.key)
        previous = self._sends.get(key)
        if previous is None or (previous.done() and previous.result().problem):
            # One that hangs is not waited for again and again: what waits for it would delay messages to the others.
            if receiver.running >= _MAX_SENDS or receiver.overdue:
                return Outcome("still busy with earlier messages")
            await self._wait_for_turn(receiver)
            self._sends[key] = self._start(receiver, key, message)
        answer = self._sends[key]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if key in receiver.overdue else self._timeout):
                await asyncio.shield(answer)
        # It may have come together with the timeout: marked as overdue then, nothing would take the mark away.
        if not answer.done():
            receiver.overdue.add(key)
            return Outcome(f"no answer within {self._timeout:g} s")
        self._sends.pop(key, None)
        return answer.result()

    async def _wait_for_turn(self, receiver: Receiver) -> None:
        now = asyncio.get_running_loop().time()
        turn = max(now, receiver.next_turn)
        receiver.next_turn = turn + self._interval
        if turn > now:
            await asyncio.sleep(turn - now)

    def _start(self, receiver: Receiver, key: tuple[str, str], message: Message) -> asyncio.Future[Outcome]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome] = loop.create_future()

        def finish(outcome: Outcome) -> None:
            receiver.running -= 1
            receiver.overdue.discard(key)
            answer.set_result(outcome)
            loop.call_later(_KEEP_OUTCOME_SECONDS, self._drop_outcome, key, answer)

        def run() -> None:
            outcome = self._send_now(receiver, message)
            # A closed loop: the process is stopping.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, outcome)

        receiver.running += 1
        # A daemon: a receiver that never answers must not keep the process from ending.
        threading.Thread(target=run, name=f"notify-{receiver.key}", daemon=True).start()
        return answer

    def _drop_outcome(self, key: tuple[str, str], answer: asyncio.Future[Outcome]) -> None:
        if self._sends.get(key) is answer:
            del self._sends[key]

    def _send_now(self, receiver: Receiver, message: Message) -> Outcome:
        self._statuses.clear()
        try:
            plugin, trial = (apprise.Apprise.instantiate(receiver.url, asset=self._asset) for _ in range(2))
            if plugin is not None and trial is not None and prepare(message, trial).send(plugin):
                return Outcome()
        except Exception as exc:
            # Its text may quote the URL.
            _log.error("notification_failed", receiver=receiver.name, error=type(exc).__name__)
            return Outcome(type(exc).__name__)
        status = self._statuses.captured()
        if status is None:
            return Outcome("cannot be reached, or did not say why it was not sent")
        return Outcome(f"answered {status}", refused=status in _REFUSALS)
