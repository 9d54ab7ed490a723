"""What the sync clients have in common: the channel, and how calls, listings and streams are run on it."""

import time
from typing import Self

import grpc

from awoooi.client.call import Call, Item, Listing, Page, Response, Result, Stream
from awoooi.client.channel import open_sync_channel
from awoooi.client.errors import error_from_rpc
from awoooi.client.options import DEFAULT_TIMEOUT, Defaults, Token
from awoooi.client.paging import SyncPager
from awoooi.client.retry import RetryPolicy
from awoooi.client.watching import Progress, SyncWatch


class SyncClient:
    """One service, on a channel of the client's own or on one that clients share. Threads may share a client."""

    def __init__(
        self,
        target: str | grpc.Channel,
        *,
        actor: str = "",
        token: Token = "",
        timeout: float = DEFAULT_TIMEOUT,
        retry: RetryPolicy | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Set what calls use unless they say otherwise.

        `target` is a gRPC name (see `open_channel`, also for `credentials`), or a channel, which stays open when the
        client is closed.
        """
        self._owns_channel = isinstance(target, str)
        self._channel = (
            open_sync_channel(target, credentials=credentials) if isinstance(target, str) else target
        )
        self._defaults = Defaults(timeout=timeout, actor=actor, token=token, retry=retry or RetryPolicy())
        self._unary: dict[str, grpc.UnaryUnaryMultiCallable[bytes, bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is under way and close the client's own channel."""
        if self._owns_channel:
            self._channel.close()

    def invoke(self, call: Call[Result]) -> Result:
        """Run a unary call. Raises CallError."""
        attempts = self._defaults.attempts(call.options, idempotent=call.idempotent)
        metadata = self._defaults.metadata(call.options)
        request = call.request.SerializeToString()
        send = self._unary.get(call.method)
        if send is None:
            send = self._unary[call.method] = self._channel.unary_unary(f"/{call.method}")
        while True:
            try:
                response = send(request, timeout=attempts.remaining, metadata=metadata)
            except grpc.RpcError as exc:
                error = error_from_rpc(exc, call.method)
                delay = attempts.delay(error)
                if delay is None:
                    raise error from exc
            else:
                return call.result(response)
            time.sleep(delay)

    def paginate(self, listing: Listing[Page, Item]) -> SyncPager[Page, Item]:
        """Return the pages of a listing."""
        return SyncPager(self.invoke, listing)

    def subscribe(self, stream: Stream[Response]) -> SyncWatch[Response]:
        """Return the responses of a stream."""
        send: grpc.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(f"/{stream.method}")
        return SyncWatch(
            # Anew at each opening: a token may have been replaced since.
            lambda request: send(request, metadata=self._defaults.metadata(stream.options)),
            Progress(stream, lambda: self._defaults.attempts(stream.options)),
        )
