"""Receivers that answer late, or never."""

import asyncio
import itertools
from dataclasses import replace

import pytest

from servicekit.outbox.handler import DeliveryError
from tests.eventually import eventually
from tests.receiver import Held, receiver, status
from tests.servicekit.unit.notifications.notifying import (
    MESSAGE,
    failure,
    notified,
    notifier,
    send,
    url,
)

# Apprise imports it on Pythons that still have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


async def test_a_send_that_succeeds_after_the_timeout_is_not_repeated() -> None:
    async with receiver() as there:
        held = Held(status(200))
        there.answers.append(held)
        by = notifier(url(there, "/?rto=60"), seconds=0.3)
        error = await failure(by)
        assert isinstance(error, DeliveryError)
        assert str(error) == "URL 1 (JSON): no answer within 0.3 s"
        held.release.set()
        await eventually(lambda: notified(by, error.progress))
        assert len(there.requests) == 1


async def test_a_send_that_fails_after_the_timeout_is_repeated() -> None:
    async with receiver() as there:
        held = Held(status(500))
        there.answers.append(held)
        by = notifier(url(there, "/?rto=60"), seconds=0.3)
        error = await failure(by)
        held.release.set()
        await eventually(lambda: notified(by, error.progress))
        assert len(there.requests) == 2


async def test_a_receiver_that_hangs_uses_a_bounded_number_of_threads_and_delays_no_other() -> None:
    async with receiver() as hanging, receiver() as well:
        hanging.answers += [Held(status(200))] * 100
        by = notifier(url(hanging, "/?rto=60"), url(well), seconds=0.3)

        async def one(number: int) -> str:
            with pytest.raises(DeliveryError) as caught:
                await by.send(replace(MESSAGE, message_id=f"{number}"), progress={})
            return str(caught.value)

        await asyncio.gather(*(one(number) for number in range(12)))
        # On a loaded machine the other one may be late as well, for once: nothing holds it up.
        later = itertools.count(13)
        await eventually(
            lambda: one(next(later)), lambda said: said == "URL 1 (JSON): still busy with earlier messages"
        )
        assert len(hanging.requests) <= 8


async def test_a_receiver_that_hangs_is_waited_for_once_and_then_holds_up_no_attempt() -> None:
    async with receiver() as hanging:
        held = Held(status(200))
        hanging.answers.append(held)
        by = notifier(url(hanging, "/?rto=60"), seconds=0.3)
        await failure(by)
        # From now on an attempt that waits would wait for ever.
        by._timeout = 3600.0
        async with asyncio.timeout(30):
            assert "no answer within" in str(await failure(by))
            with pytest.raises(DeliveryError, match="still busy with earlier messages"):
                await send(by, replace(MESSAGE, message_id="another"))
            held.release.set()
            await eventually(lambda: notified(by, {}))
            await send(by, replace(MESSAGE, message_id="another"))
        assert len(hanging.requests) == 2
