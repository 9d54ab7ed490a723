"""Streams that outlive their connections: after UNAVAILABLE they are opened again with the latest token."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Generic, Protocol, Self

import grpc
import grpc.aio

from awoooi.client.call import Response, Stream
from awoooi.client.errors import CallError, DeadlineExceededError, UnavailableError, error_from_rpc
from awoooi.client.retry import Attempts


class Progress(Generic[Response]):
    """How far a stream has come, over all the connections it takes."""

    def __init__(self, stream: Stream[Response], attempts: Callable[[], Attempts]) -> None:
        """Begin at the request's token; `attempts` begins the attempts of one opening."""
        self._stream = stream
        self._attempts = attempts
        self._opening: Attempts | None = None
        # Responses without a token came last: what is there, before the changes. It cannot be resumed in the middle.
        self._is_partial = False
        self.method = stream.method
        self.resume_token = stream.request.resume_token

    def open(self) -> bytes:
        """Return the request that continues the stream."""
        self._opening = self._opening or self._attempts()
        request = deepcopy(self._stream.request)
        request.resume_token = self.resume_token
        return request.SerializeToString()

    @property
    def seconds_to_open(self) -> float | None:
        """How long the first response may still take; None once it is there."""
        return None if self._opening is None else self._opening.remaining

    def received(self, response: bytes) -> Response | None:
        """Return a response for the caller, or None for a heartbeat. Raises InvalidResponseError."""
        received = self._stream.response(response)
        self._opening = None
        self._is_partial = not received.resume_token
        self.resume_token = received.resume_token or self.resume_token
        return None if self._stream.is_heartbeat(received) and not self._stream.heartbeats else received

    def interrupted(self, error: CallError) -> float | None:
        """Return how many seconds to wait before the stream is opened again, or None when the caller gets `error`."""
        delay: float | None = None
        if not self._is_partial:
            self._opening = self._opening or self._attempts()
            delay = self._opening.delay(error)
        if delay is None:
            self._opening = None
            self._is_partial = False
        return delay


class AsyncWatch(Generic[Response]):
    """The responses of a stream. Ends with `close()`, or when the block is left or the client closed.

    An error does not end it: the next iteration continues after the latest response.
    """

    def __init__(
        self,
        connect: "Callable[[bytes], grpc.aio.UnaryStreamCall[bytes, bytes]]",
        progress: Progress[Response],
    ) -> None:
        self._connect = connect
        self._progress = progress
        self._call: grpc.aio.UnaryStreamCall[bytes, bytes] | None = None
        self._reading: asyncio.Future[object] | None = None
        self._is_closed = False

    @property
    def resume_token(self) -> str:
        """Where another Watch with the same filters would continue; heartbeats move it, too."""
        return self._progress.resume_token

    def close(self) -> None:
        """End the stream."""
        self._is_closed = True
        self._disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A loop that was left by a break or a timeout: the server need not go on.
        self._disconnect()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Response:
        while not self._is_closed:
            try:
                response = self._progress.received(await self._read())
            except CallError as error:
                self._disconnect()
                delay = self._progress.interrupted(error)
                if delay is None:
                    raise
                await asyncio.sleep(delay)
            else:
                if response is not None:
                    return response
        raise StopAsyncIteration

    async def _read(self) -> bytes:
        if self._call is None:
            self._call = self._connect(self._progress.open())
        # In a task of its own: a caller that stops waiting, as with asyncio.timeout(), loses neither stream nor response.
        reading = self._reading = self._reading or asyncio.ensure_future(self._call.read())
        await asyncio.wait([reading], timeout=self._progress.seconds_to_open)
        if not reading.done():
            raise _not_opened(self._progress.method)
        self._reading = None
        if reading.cancelled():  # by close(), or with the channel
            raise StopAsyncIteration
        try:
            response = reading.result()
        except grpc.aio.AioRpcError as exc:
            raise error_from_rpc(exc, self._progress.method) from exc
        if not isinstance(response, bytes):
            raise _ended(self._progress.method)
        return response

    def _disconnect(self) -> None:
        if self._call is not None:
            self._call.cancel()
        self._call = self._reading = None


class _Responses(Iterator[bytes], Protocol):
    """A running call, as grpc returns it."""

    def cancel(self) -> object:
        """End the call."""


class SyncWatch(Generic[Response]):
    """The responses of a stream. Ends with `close()`, which any thread may call, or when the block is left.

    An error does not end it: the next iteration continues after the latest response.
    """

    def __init__(self, connect: Callable[[bytes], _Responses], progress: Progress[Response]) -> None:
        self._connect = connect
        self._progress = progress
        self._call: _Responses | None = None
        self._is_overdue = False
        self._closed = threading.Event()
        # Held while the call changes, so that close() finds it.
        self._lock = threading.Lock()

    @property
    def resume_token(self) -> str:
        """Where another Watch with the same filters would continue; heartbeats move it, too."""
        return self._progress.resume_token

    def close(self) -> None:
        """End the stream."""
        self._closed.set()
        self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Response:
        while not self._closed.is_set():
            try:
                response = self._progress.received(self._read())
            except CallError as error:
                self._disconnect()
                if self._closed.is_set():
                    break
                delay = self._progress.interrupted(error)
                if delay is None:
                    raise
                self._closed.wait(delay)
            else:
                if response is not None:
                    return response
        raise StopIteration

    def _read(self) -> bytes:
        with self._lock:
            if self._closed.is_set():
                raise _ended(self._progress.method)
            call = self._call = self._call or self._connect(self._progress.open())
        with self._opening_bounded():
            try:
                return next(call)
            except StopIteration:
                raise _ended(self._progress.method) from None
            except grpc.RpcError as exc:
                if self._is_overdue:
                    raise _not_opened(self._progress.method) from exc
                raise error_from_rpc(exc, self._progress.method) from exc

    @contextmanager
    def _opening_bounded(self) -> Iterator[None]:
        """Cancel the call when it has no response in time. A deadline of the call itself would end the open stream, too."""
        seconds = self._progress.seconds_to_open
        self._is_overdue = False
        if seconds is None:
            yield
            return
        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._end_opening)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end_opening(self) -> None:
        self._is_overdue = True
        self._disconnect()

    def _disconnect(self) -> None:
        with self._lock:
            if self._call is not None:
                self._call.cancel()
            self._call = None


def _not_opened(method: str) -> CallError:
    return DeadlineExceededError(
        method, grpc.StatusCode.DEADLINE_EXCEEDED, "the stream did not begin within the timeout"
    )


def _ended(method: str) -> CallError:
    return UnavailableError(method, grpc.StatusCode.UNAVAILABLE, "the server ended the stream")
