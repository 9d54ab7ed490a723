"""Connections with bounds: their number, in all and of one peer, and the time for headers, between requests and to read."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from servicekit.http.limits import HttpLimits, HttpRefusals
from servicekit.process.descriptors import usable_connections

_PART_BYTES = 64 << 10


class Connection(Protocol):
    """What the pool knows of a connection."""

    peer: str

    def evict(self) -> None:
        """End it for another connection."""


class ConnectionPool:
    """The open connections of a server.

    A new one is never refused for connections that merely wait: the one that has waited longest for a request is closed for
    it. So silent connections, however many, keep no client out.
    """

    def __init__(self, limits: HttpLimits, refusals: HttpRefusals) -> None:
        self.limits = limits
        self.refusals = refusals
        self._capacity = usable_connections(limits.connections)
        # In the order in which they began to wait.
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._busy: set[Connection] = set()
        self._of_peer: Counter[str] = Counter()

    def add(self, connection: Connection) -> None:
        """Take a new connection in, for which another may have to go; it is aborted itself when all others are busy."""
        peer = connection.peer
        if self._of_peer[peer] >= self.limits.connections_per_peer:
            self._evict(connection, peer, "connections_per_peer")
        elif len(self._waiting) + len(self._busy) >= self._capacity:
            self._evict(connection, None, "connections")
        self._of_peer[peer] += 1
        self._waiting[connection] = None

    def remove(self, connection: Connection) -> None:
        """Forget a connection that was closed."""
        self._waiting.pop(connection, None)
        self._busy.discard(connection)
        self._of_peer[connection.peer] -= 1
        if not self._of_peer[connection.peer]:
            del self._of_peer[connection.peer]

    def set_busy(self, connection: Connection) -> None:
        """Note that a request of the connection is being answered."""
        self._waiting.pop(connection, None)
        self._busy.add(connection)

    def set_waiting(self, connection: Connection) -> None:
        """Note that the connection waits for its next request from now on."""
        self._busy.discard(connection)
        self._waiting[connection] = None

    def _evict(self, new: Connection, peer: str | None, limit: str) -> None:
        self.refusals.add(limit)
        waiting = (each for each in self._waiting if peer is None or each.peer == peer)
        next(waiting, new).evict()


class BoundedConnection(H11Protocol):
    """One connection. uvicorn bounds the time between requests; this adds the other bounds."""

    def __init__(self, pool: ConnectionPool, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._pool = pool
        self.peer = ""
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for the first request."""
        super().connection_made(transport)
        # Writing counts as paused while anything is unsent: so the time to read a response is measured to its end. Under TLS
        # it counts from the limit on, with 0 also while nothing is.
        transport.set_write_buffer_limits(high=1 if self.scheme == "https" else 0, low=0)
        self.peer = self.client[0] if self.client else ""
        if self.scheme == "https":
            self.app = _over_tls(self.app, transport.get_extra_info("peercert"))
        self._pool.add(self)
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what belongs to the connection."""
        super().connection_lost(exc)
        self._stop_header_timer()
        self._stop_write_timer()
        self._unset_keepalive_if_required()
        self._pool.remove(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and not self._answers():
            # Headers have begun: more bytes do not lengthen their time.
            if self._header_timer is None:
                self._start_header_timer()
        else:
            self._stop_header_timer()
            if self._answers():
                self._pool.set_busy(self)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._pool.set_waiting(self)
        super().on_response_complete()
        # The next request may have been read already (pipelining).
        if self._answers():
            self._pool.set_busy(self)

    def evict(self) -> None:
        """End the connection for another one."""
        self.transport.abort()

    def pause_writing(self) -> None:
        """Begin to measure how long the client reads nothing."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(
                self._pool.limits.write_time.total_seconds(), self._abort, "write_time"
            )

    def resume_writing(self) -> None:
        """Note that all was sent."""
        super().resume_writing()
        self._stop_write_timer()

    def _answers(self) -> bool:
        cycle: RequestResponseCycle | None = (
            self.cycle
        )  # None before the first request, although uvicorn's types exclude it
        return cycle is not None and not cycle.response_complete

    def _start_header_timer(self) -> None:
        self._header_timer = self.loop.call_later(
            self._pool.limits.header_time.total_seconds(), self._abort, "header_time"
        )

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _abort(self, limit: str) -> None:
        self._pool.refusals.add(limit)
        self.transport.abort()


def _over_tls(app: ASGIApp, certificate: Mapping[str, Any] | None) -> ASGIApp:
    """Show the application the verified certificate of the client, as https://asgi.readthedocs.io/en/latest/specs/tls.html.

    Its responses are sent in parts: TLS takes a part of any size at once, and only the next one waits for the client.
    """
    names = {"client_cert_name": None if not certificate else _distinguished_name(certificate)}

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            body = memoryview(message.get("body", b""))
            end = len(body) - _PART_BYTES
            sent = 0
            while sent < end:
                part = bytes(body[sent : sent + _PART_BYTES])
                await send({"type": message["type"], "body": part, "more_body": True})
                sent += _PART_BYTES
            await send({**message, "body": bytes(body[sent:])} if sent else message)

        scope.setdefault("extensions", {})["tls"] = names
        await app(scope, receive, sending)

    return application


def _distinguished_name(certificate: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={value}" for part in certificate.get("subject", ()) for name, value in part)
