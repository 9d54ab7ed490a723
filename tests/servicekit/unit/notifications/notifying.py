"""Notifiers of real receivers."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

import pytest

from servicekit.notifications.message import Message
from servicekit.notifications.notifier import Notifier
from servicekit.outbox.handler import DeliveryError, PermanentError
from tests.receiver import Receiver

MESSAGE = Message("Resolved: disk full", "severity HIGH", "observed", "INC-20260507-99ADF2/notification/2")


def url(to: Receiver, path: str = "/") -> str:
    """A URL of Apprise's that posts JSON to a receiver."""
    return f"json://127.0.0.1:{to.port}{path}"


def notifier(*urls: str, seconds: float = 30.0) -> Notifier:
    return Notifier(" ".join(urls), timeout=timedelta(seconds=seconds))


async def send(
    by: Notifier,
    what: Message = MESSAGE,
    *,
    progress: Mapping[str, Any] | None = None,
    channels: Collection[str] | None = None,
) -> None:
    await by.send(what, progress=progress or {}, channels=channels)


async def failure(
    by: Notifier, *, progress: Mapping[str, Any] | None = None
) -> DeliveryError | PermanentError:
    """The error of an attempt that must fail."""
    with pytest.raises((DeliveryError, PermanentError)) as caught:
        await send(by, progress=progress)
    assert isinstance(caught.value, DeliveryError | PermanentError)
    return caught.value


def named(*urls: str, seconds: float = 30.0) -> Notifier:
    return Notifier("\n".join(urls), timeout=timedelta(seconds=seconds), named=True)


async def notified(by: Notifier, progress: Mapping[str, Any]) -> bool:
    """Send once more; returns whether every receiver is notified."""
    try:
        await send(by, progress=progress)
    except DeliveryError:
        return False
    return True
