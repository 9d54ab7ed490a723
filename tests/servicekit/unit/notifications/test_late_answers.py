"""The answer of a send that comes in the same turn of the event loop as the timeout of an attempt that waits for it."""

import asyncio
import threading
from datetime import timedelta

import pytest

from servicekit.notifications.message import Message
from servicekit.notifications.notifier import Notifier, Outcome
from servicekit.notifications.receivers import Receiver
from servicekit.outbox.handler import DeliveryError

# Apprise imports it on Pythons that still have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

MESSAGE = Message("Resolved: disk full", "severity HIGH", "observed", "INC-20260507-99ADF2/notification/2")
TIMEOUT_SECONDS = 60.0


async def test_a_receiver_whose_answer_comes_with_the_timeout_is_not_busy_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter([Outcome("answered 500"), Outcome()])
    may_end = threading.Event()

    def send_now(_receiver: Receiver, _message: Message) -> Outcome:
        assert may_end.wait(TIMEOUT_SECONDS)
        return next(answers)

    by = Notifier("json://127.0.0.1:9/", timeout=timedelta(milliseconds=50))
    monkeypatch.setattr(by, "_send_now", send_now)
    with pytest.raises(DeliveryError, match="no answer within"):
        await by.send(MESSAGE, progress={})
    (sending,) = [each for each in threading.enumerate() if each.name.startswith("notify-")]

    def end_send() -> None:
        may_end.set()
        sending.join(TIMEOUT_SECONDS)

    # It waits no longer for a send that is overdue: its timeout is due in the turn after the one in which it begins, and so is
    # the answer of the send, which ends in that one.
    attempt = asyncio.create_task(by.send(MESSAGE, progress={}))
    asyncio.get_running_loop().call_soon(end_send)
    with pytest.raises(DeliveryError, match="answered 500"):
        await attempt
    await by.send(MESSAGE, progress={})
