"""A channel whose connections can be made anew, with other credentials, while it is in use."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import grpc
import grpc.aio

# Calls in flight end on the connections on which they began; none of ours may take longer.
_GRACE_SECONDS = 60.0


class ReloadingChannel(grpc.aio.Channel):
    """Passes calls on to a channel that `reload` replaces."""

    def __init__(
        self, open_channel: Callable[[], grpc.aio.Channel], *, grace_seconds: float = _GRACE_SECONDS
    ) -> None:
        """`open_channel` opens a channel with the credentials of that moment."""
        self._open = open_channel
        self._grace_seconds = grace_seconds
        self._old: dict[grpc.aio.Channel, asyncio.Task[None]] = {}
        # The one in use now.
        self.current = open_channel()

    def reload(self) -> None:
        """Use a new channel for new calls; the old one is closed when calls in flight have had their time."""
        old, self.current = self.current, self._open()
        self._old[old] = asyncio.create_task(self._close_later(old))

    async def _close_later(self, old: grpc.aio.Channel) -> None:
        await asyncio.sleep(self._grace_seconds)
        del self._old[old]
        await old.close()

    async def close(self, grace: float | None = None) -> None:
        """Close the channel in use and those that were."""
        while self._old:
            old, task = self._old.popitem()
            task.cancel()
            await old.close()
        await self.current.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the channel in use."""
        return self.current.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when the channel in use has left a state."""
        await self.current.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Return when the channel in use is connected."""
        await self.current.channel_ready()

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        """Return a callable for a method."""
        return _Method(self, "unary_unary", arguments, options)

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        """Return a callable for a method."""
        return _Method(self, "unary_stream", arguments, options)

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:
        """Return a callable for a method."""
        return _Method(self, "stream_unary", arguments, options)

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        """Return a callable for a method."""
        return _Method(self, "stream_stream", arguments, options)


class _Method:
    """A method on the channel in use. Stubs keep it for as long as they live."""

    def __init__(
        self, channel: ReloadingChannel, kind: str, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        self._channel = channel
        self._make = (kind, arguments, options)
        self._made_on: grpc.aio.Channel | None = None
        self._call: Callable[..., Any] = self._remade

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self._made_on is not self._channel.current:
            self._remade()
        return self._call(*arguments, **options)

    def _remade(self) -> None:
        kind, arguments, options = self._make
        self._made_on = self._channel.current
        self._call = getattr(self._made_on, kind)(*arguments, **options)
