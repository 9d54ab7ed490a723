"""Connections that bound what a hostile receiver can send.

The HTTP client has no such bound: it reads interim (1xx) responses and a body's chunks for as long as they come, and
parses 64 KiB of them, thousands of messages, before the event loop gets its next turn.
"""

# ruff: noqa: ASYNC109 - the interface of the client's streams has the parameter

import asyncio
import re
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore2

# What is received in response to one webhook: interim responses, the head, and the body as far as it is read.
MAX_RESPONSE_BYTES = 16_384
# Interim responses before the one that counts: one or two are usual. Of the smallest, 16 KiB are some 400, 10 ms of parsing.
MAX_INTERIM_RESPONSES = 8
# What is parsed in one turn of the event loop: some milliseconds of work.
_MAX_READ_BYTES = 1_024

_INTERIM_STATUS = re.compile(rb"HTTP/1\.[01] +1")
_STATUS_BYTES = len(b"HTTP/1.1 1")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")


class BoundedBackend(httpcore2.AsyncNetworkBackend):
    """Opens TCP connections whose streams are bounded."""

    def __init__(
        self, *, max_response_bytes: int = MAX_RESPONSE_BYTES, max_read_bytes: int = _MAX_READ_BYTES
    ) -> None:
        """The defaults are those of webhooks, whose receivers are not trusted."""
        self._backend = httpcore2.AnyIOBackend()
        self._max_response_bytes = max_response_bytes
        self._max_read_bytes = max_read_bytes

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect."""
        stream = await self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return _BoundedStream(stream, self._max_response_bytes, self._max_read_bytes)


class _BoundedStream(httpcore2.AsyncNetworkStream):
    def __init__(
        self, stream: httpcore2.AsyncNetworkStream, max_response_bytes: int, max_read_bytes: int
    ) -> None:
        self._stream = stream
        self._max_read_bytes = max_read_bytes
        self._max_response_bytes = self._left = max_response_bytes
        self._interim = InterimResponses()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._left <= 0:
            raise httpcore2.RemoteProtocolError(f"more than {self._max_response_bytes} bytes")
        # A TLS stream that has decrypted data returns it without a turn of the event loop.
        await asyncio.sleep(0)
        content = await self._stream.read(min(max_bytes, self._max_read_bytes), timeout)
        self._left -= len(content)
        # Before they are parsed, which is what costs.
        if self._interim.add(content) > MAX_INTERIM_RESPONSES:
            raise httpcore2.RemoteProtocolError(f"more than {MAX_INTERIM_RESPONSES} interim responses")
        return content

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # A write belongs to a new request: what is received from here on is its response.
        self._left = self._max_response_bytes
        self._interim = InterimResponses()
        await self._stream.write(buffer, timeout)

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        try:
            stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
            return _BoundedStream(stream, self._max_response_bytes, self._max_read_bytes)
        except BaseException:
            # The client closes a connection whose handshake failed, but leaks one whose handshake was cancelled.
            await self._stream.aclose()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class InterimResponses:
    """Counts the interim responses to one request."""

    def __init__(self) -> None:
        self._count = 0
        # What was received of the head that is not complete yet; None from the final one on.
        self._head: bytes | None = b""

    def add(self, content: bytes) -> int:
        """Take what was received, and return how many interim responses there were."""
        if self._head is None:
            return self._count
        head = (self._head + content).lstrip(b"\r\n")
        while _INTERIM_STATUS.match(head):
            end = _END_OF_HEAD.search(head)
            if end is None:
                break
            self._count += 1
            head = head[end.end() :]
        else:
            if len(head) >= _STATUS_BYTES:
                self._head = None
                return self._count
        self._head = head
        return self._count
