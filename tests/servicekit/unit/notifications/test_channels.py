"""Channels: the receivers that a message is for, and their own turns."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from servicekit.notifications.notifier import Notifier
from servicekit.notifications.receivers import NotifyUrlError
from servicekit.outbox.handler import DeliveryError
from tests.receiver import receiver, status
from tests.servicekit.unit.notifications.notifying import (
    MESSAGE,
    named,
    notifier,
    send,
    url,
)

# Apprise imports it on Pythons that still have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


async def test_only_the_receivers_of_the_channels_are_notified() -> None:
    async with receiver() as one, receiver() as two, receiver() as three:
        by = named(f"oncall={url(one)}", f"payments={url(two)}", url(three))
        assert by.channels == {"oncall", "payments", "default"}
        for channels, counts in (
            ({"oncall"}, (1, 0, 0)),
            ({"payments", "default"}, (1, 1, 1)),
            (set(), (1, 1, 1)),
            ({"unknown"}, (1, 1, 1)),
            (None, (2, 2, 2)),
        ):
            await send(by, channels=channels)
            assert (len(one.requests), len(two.requests), len(three.requests)) == counts


async def test_a_url_of_two_channels_is_notified_once() -> None:
    async with receiver() as there:
        by = named(f"oncall={url(there)}", f"payments={url(there)}")
        await send(by, channels={"oncall", "payments"})
        await send(by, channels={"payments"})
        assert len(there.requests) == 2


async def test_a_receiver_of_another_channel_does_not_count_as_notified() -> None:
    async with receiver() as one, receiver() as two:
        by = named(f"oncall={url(one)}", f"payments={url(two)}")
        one.answers.append(status(500))
        with pytest.raises(DeliveryError) as caught:
            await send(by, channels={"oncall"})
        # The routes were changed meanwhile.
        await send(by, progress=caught.value.progress, channels={"payments"})
        assert (len(one.requests), len(two.requests)) == (1, 1)


async def test_a_name_is_part_of_the_url_where_channels_have_no_names() -> None:
    with pytest.raises(NotifyUrlError):
        notifier("oncall=json://127.0.0.1")


async def test_messages_to_a_receiver_are_an_interval_apart_and_each_receiver_has_its_own_turn() -> None:
    async with receiver() as one, receiver() as two:
        urls = f"oncall={url(one)} payments={url(two)}"
        by = Notifier(urls, timeout=timedelta(seconds=30), interval=timedelta(seconds=0.2), named=True)
        begin = asyncio.get_running_loop().time()
        await asyncio.gather(*(send(by, replace(MESSAGE, message_id=f"{number}")) for number in range(4)))
        assert asyncio.get_running_loop().time() - begin >= 0.6
        assert (len(one.requests), len(two.requests)) == (4, 4)
