"""What the async clients have in common: the channel, and how calls, listings and streams are run on it."""

import asyncio
from typing import Self

import grpc
import grpc.aio

from awoooi.client.call import Call, Item, Listing, Page, Response, Result, Stream
from awoooi.client.channel import open_channel
from awoooi.client.errors import error_from_rpc
from awoooi.client.options import DEFAULT_TIMEOUT, Defaults, Token
from awoooi.client.paging import AsyncPager
from awoooi.client.retry import RetryPolicy
from awoooi.client.watching import AsyncWatch, Progress


class AsyncClient:
    """One service, on a channel of the client's own or on one that clients share."""

    def __init__(
        self,
        target: str | grpc.aio.Channel,
        *,
        actor: str = "",
        token: Token = "",
        timeout: float = DEFAULT_TIMEOUT,
        retry: RetryPolicy | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Set what calls use unless they say otherwise. Nothing is opened before the first call.

        `target` is a gRPC name (see `open_channel`, also for `credentials`), or a channel, which stays open when the
        client is closed.
        """
        self._target = target if isinstance(target, str) else ""
        self._credentials = credentials
        self._channel = None if isinstance(target, str) else target
        self._defaults = Defaults(timeout=timeout, actor=actor, token=token, retry=retry or RetryPolicy())
        self._unary: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel what is under way and close the client's own channel."""
        if self._target and self._channel is not None:
            await self._channel.close()

    async def invoke(self, call: Call[Result]) -> Result:
        """Run a unary call. Raises CallError."""
        attempts = self._defaults.attempts(call.options, idempotent=call.idempotent)
        metadata = self._defaults.metadata(call.options)
        request = call.request.SerializeToString()
        send = self._unary.get(call.method)
        if send is None:
            send = self._unary[call.method] = self._open().unary_unary(f"/{call.method}")
        while True:
            try:
                response = await send(request, timeout=attempts.remaining, metadata=metadata)
            except grpc.aio.AioRpcError as exc:
                error = error_from_rpc(exc, call.method)
                delay = attempts.delay(error)
                if delay is None:
                    raise error from exc
            else:
                return call.result(response)
            await asyncio.sleep(delay)

    def paginate(self, listing: Listing[Page, Item]) -> AsyncPager[Page, Item]:
        """Return the pages of a listing."""
        return AsyncPager(self.invoke, listing)

    def subscribe(self, stream: Stream[Response]) -> AsyncWatch[Response]:
        """Return the responses of a stream."""

        def connect(request: bytes) -> "grpc.aio.UnaryStreamCall[bytes, bytes]":
            send: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
            send = self._open().unary_stream(f"/{stream.method}")
            # Anew at each opening: a token may have been replaced since.
            return send(request, metadata=self._defaults.metadata(stream.options))

        return AsyncWatch(connect, Progress(stream, lambda: self._defaults.attempts(stream.options)))

    def _open(self) -> grpc.aio.Channel:
        # Late, so that a client may be made where no event loop runs yet.
        if self._channel is None:
            self._channel = open_channel(self._target, credentials=self._credentials)
        return self._channel
