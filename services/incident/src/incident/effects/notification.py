"""Notifies people of a resolution through Apprise: Telegram, Slack, mail and some hundred others, by URL.

Apprise is synchronous, may sleep, and returns only whether it worked. So each send has a thread and a plugin instance of
its own (an instance keeps state between sends), and Apprise's log, whose texts may quote URLs, is parsed for HTTP statuses
and not propagated.
"""

import asyncio
import contextlib
import hashlib
import logging
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import apprise
import structlog

from incident.effects.message import Message, format_message
from incident.effects.model import ResolutionSnapshot
from incident.effects.receiver_rules import prepare
from servicekit.outbox.handler import DeliveryError, PermanentError

_log = structlog.get_logger()

# Between two URLs, and never inside one: some have commas and spaces in their query.
_BETWEEN_URLS = re.compile(r"[\s,;]*[\r\n][\s,;]*|[\s,;]+(?=[A-Za-z0-9]+://)")
# Threads for each URL: a receiver that hangs uses up its own only.
_MAX_SENDS = 8
# How long the outcome of a send that ended after the timeout is kept for the next attempt; the longest backoff is a minute.
_KEEP_OUTCOME_SECONDS = 600.0
_HTTP_STATUS = re.compile(r"error=(\d{3})\b")
# 4xx: a retry would be refused too; except timeout, "too early" and "too many requests", which are transient.
_REFUSALS = frozenset(range(400, 500)) - {408, 425, 429}


class NotifyUrlError(ValueError):
    """A URL is none that Apprise knows; `position` counts from 1. The URL itself is a secret and not in it."""

    def __init__(self, position: int, count: int) -> None:
        super().__init__(f"URL {position} of {count} is none that Apprise can use")
        self.position = position


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a send: `problem` is empty when it worked; `refused` when a retry would be refused too."""

    problem: str = ""
    refused: bool = False


@dataclass(slots=True)
class _Receiver:
    url: str = field(repr=False)
    # For people: position and service.
    name: str
    # For the job's row. Two bytes of the digest tell a changed URL from the old one, and no guessed one from another.
    key: str
    running: int = 0


class Notifier:
    """Sends a text to every URL."""

    def __init__(self, urls: str, *, timeout: timedelta) -> None:
        """`urls` are separated by white space or commas. `timeout` is how long a try waits for all of them.

        Raises NotifyUrlError.
        """
        self._timeout = timeout.total_seconds()
        self._statuses = _capture_statuses()
        self._asset = apprise.AppriseAsset(
            app_id="awoooi",
            # A redirect would carry the token in a URL or header to a host that the receiver chooses.
            http_redirects=False,
            secure_logging=True,
            storage_mode=apprise.PersistentStoreMode.MEMORY,
        )
        self._receivers = self._parse(urls)
        # Sends continue in their threads after the timeout. The next attempt of the same job waits for them.
        self._sends: dict[tuple[str, str], asyncio.Future[Outcome]] = {}

    def _parse(self, urls: str) -> Sequence[_Receiver]:
        found = [url for part in _BETWEEN_URLS.split(urls) if (url := part.strip(" \t,;"))]
        receivers: list[_Receiver] = []
        for position, url in enumerate(found, start=1):
            try:
                plugin = apprise.Apprise.instantiate(url, asset=self._asset)
            except Exception:
                # Its exceptions may quote the URL.
                plugin = None
            if plugin is None:
                raise NotifyUrlError(position, len(found))
            digest = hashlib.sha256(url.encode()).hexdigest()
            receivers.append(
                _Receiver(url, f"URL {position} ({plugin.service_name})", f"{position}-{digest[:4]}")
            )
        return receivers

    async def send(
        self,
        resolution: ResolutionSnapshot,
        *,
        delivery_id: str,
        time_to_resolve: timedelta,
        progress: Mapping[str, Any],
    ) -> None:
        """Notify all receivers except those that an earlier attempt has notified.

        When some failed, raises PermanentError if each of them refused permanently, else DeliveryError; its progress has
        the keys of those that are notified by now.
        """
        notified = progress.get("notified", ())
        message = format_message(resolution, time_to_resolve)
        waiting = [receiver for receiver in self._receivers if receiver.key not in notified]
        outcomes = await asyncio.gather(
            *(self._outcome(receiver, delivery_id, message) for receiver in waiting)
        )
        failed = [
            (receiver, outcome)
            for receiver, outcome in zip(waiting, outcomes, strict=True)
            if outcome.problem
        ]
        if not failed:
            return
        unsent = {receiver.key for receiver, _ in failed}
        text = "; ".join(f"{receiver.name}: {outcome.problem}" for receiver, outcome in failed)
        error = PermanentError if all(outcome.refused for _, outcome in failed) else DeliveryError
        raise error(
            text, progress={"notified": [each.key for each in self._receivers if each.key not in unsent]}
        )

    async def _outcome(self, receiver: _Receiver, delivery_id: str, message: Message) -> Outcome:
        key = (delivery_id, receiver.key)
        previous = self._sends.get(key)
        if previous is None or (previous.done() and previous.result().problem):
            if receiver.running >= _MAX_SENDS:
                return Outcome("still busy with earlier messages")
            self._sends[key] = self._start(receiver, key, message)
        try:
            async with asyncio.timeout(self._timeout):
                outcome = await asyncio.shield(self._sends[key])
        except TimeoutError:
            return Outcome(f"no answer within {self._timeout:g} s")
        self._sends.pop(key, None)
        return outcome

    def _start(self, receiver: _Receiver, key: tuple[str, str], message: Message) -> asyncio.Future[Outcome]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome] = loop.create_future()

        def finish(outcome: Outcome) -> None:
            receiver.running -= 1
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

    def _send_now(self, receiver: _Receiver, message: Message) -> Outcome:
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


class _Statuses(logging.Handler):
    """Captures the HTTP status of a failed send from Apprise's log records, for each thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._here = threading.local()

    def clear(self) -> None:
        """Begin a send in this thread."""
        self._here.status = None

    def captured(self) -> int | None:
        """Return the status of this thread's send, or None when none was logged."""
        status: int | None = getattr(self._here, "status", None)
        return status

    def emit(self, record: logging.LogRecord) -> None:
        """Capture the status in `record`, if there is one."""
        with contextlib.suppress(Exception):
            if match := _HTTP_STATUS.search(record.getMessage()):
                self._here.status = int(match[1])


def _capture_statuses() -> _Statuses:
    """Detach the loggers of Apprise and of its HTTP client from the root logger, at every level: they quote URLs."""
    statuses = _Statuses()
    for name in ("apprise", "urllib3"):
        logger = logging.getLogger(name)
        logger.handlers = [statuses]
        logger.propagate = False
        logger.setLevel(logging.WARNING)
    return statuses
