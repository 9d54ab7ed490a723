"""Connections that cannot stay silent: a host that vanishes without a reset is noticed, on both ends.

A connection whose peer is gone swallows what is sent and never answers. Three bounds end it:

- the client's own bound on every statement, commit, rollback and close (`command_timeout` of the driver), a little longer than
  the server's statement timeout: a server that is alive has answered by then;
- TCP keepalive and user timeout on this end, for connections that are idle;
- the same on the server's end, so that a client's death does not hold its locks.

A connection that breaks the first bound is taken as proof that its peer is gone, and all others are ended with it.

A caller that hangs up during a statement costs no connection: what is left of the statement is waited for, and the connection
serves the next one. Calls that are cancelled at full speed would otherwise have each a connection made anew.
"""

import asyncio
import socket
import weakref
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

_log = structlog.get_logger()

# Idle for so long, then so many probes so far apart: a vanished host is noticed after 20 seconds.
_KEEPALIVE_IDLE_SECONDS: Final = 10
_KEEPALIVE_INTERVAL_SECONDS: Final = 3
_KEEPALIVE_PROBES: Final = 3
# Sent data that stays unacknowledged for this long ends the connection.
_USER_TIMEOUT_MILLISECONDS: Final = 15_000

# What the server does for its end of the connection.
SERVER_SETTINGS: Final = {
    "tcp_keepalives_idle": str(_KEEPALIVE_IDLE_SECONDS),
    "tcp_keepalives_interval": str(_KEEPALIVE_INTERVAL_SECONDS),
    "tcp_keepalives_count": str(_KEEPALIVE_PROBES),
    "tcp_user_timeout": str(_USER_TIMEOUT_MILLISECONDS),
}

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection


class KeptConnection(Connection):
    """A driver's connection with TCP keepalive and user timeout, which outlives the cancellation of a statement."""

    def __init__(self, protocol: Any, transport: asyncio.Transport, *arguments: Any) -> None:
        super().__init__(protocol, transport, *arguments)
        _keep_alive(transport.get_extra_info("socket"))
        # How long a statement whose caller has hung up may go on before the server is requested to cancel it: that takes a
        # connection of its own, and most statements are over sooner.
        self.cancel_after_seconds = 0.0
        # Done once the server has answered the statement that was cancelled last.
        self._answered: asyncio.Future[None] | None = None
        self._prepares = False
        # When a pooler has last given it a session, in the loop's time; 0.0 where it has a session of its own.
        self.served_time = 0.0

    @property
    def is_reusable(self) -> bool:
        """Whether the connection can be used again after a cancellation: one of a PREPARE leaves an unknown statement."""
        return not self._prepares

    async def answered(self) -> None:
        """Return once the server has answered a cancelled statement. Raises TimeoutError when the server is silent."""
        if self._answered is not None:
            timeout = self._config.command_timeout  # type: ignore[attr-defined]  # unknown to the stubs
            await asyncio.wait_for(asyncio.shield(self._answered), timeout)
            self._answered = None

    async def prepare(self, *arguments: Any, **options: Any) -> Any:
        """Prepare a statement."""
        self._prepares = True
        statement = await super().prepare(*arguments, **options)
        self._prepares = False
        return statement

    # The driver calls this when the task that waits for a statement was cancelled, or when the statement's time is over.
    def _cancel_current_command(self, sent: "asyncio.Future[None]", answered: "asyncio.Future[None]") -> None:
        self._answered = answered
        self._cancellations.add(self._loop.create_task(self._cancel_in_time(sent, answered)))  # type: ignore[attr-defined]

    async def _cancel_in_time(self, sent: "asyncio.Future[None]", answered: "asyncio.Future[None]") -> None:
        if self.cancel_after_seconds:
            await asyncio.wait([answered], timeout=self.cancel_after_seconds)
        if not answered.done():
            await self._cancel(sent, answered)  # type: ignore[attr-defined]
            return
        self._cancellations.discard(asyncio.current_task())  # type: ignore[attr-defined]
        if not sent.done():
            sent.set_result(None)


class Peers:
    """The open connections of one engine, so that all can be ended when one is found silent."""

    def __init__(self) -> None:
        self._connections: weakref.WeakSet[KeptConnection] = weakref.WeakSet()

    def add(self, connection: KeptConnection) -> None:
        """Keep a weak reference to a connection."""
        self._connections.add(connection)

    def is_served_within(self, seconds: float) -> bool:
        """Whether a pooler has given one of the connections a session within this time; False where there is none."""
        since = asyncio.get_running_loop().time() - seconds
        return any(connection.served_time > since for connection in self._connections)

    def terminate(self) -> None:
        """End all connections at once, without a word to the server. What waits on one fails as unavailable."""
        open_ones = [connection for connection in self._connections if not connection.is_closed()]
        _log.warning("database_connections_silent", connections=len(open_ones))
        for connection in open_ones:
            connection.terminate()


def _keep_alive(transport_socket: socket.socket | None) -> None:
    if transport_socket is None or transport_socket.family not in (socket.AF_INET, socket.AF_INET6):
        return
    transport_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # The names differ between systems; where one is missing, its default stays.
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_SECONDS),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_SECONDS),
        ("TCP_KEEPCNT", _KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", _USER_TIMEOUT_MILLISECONDS),
    ):
        if (option := getattr(socket, name, None)) is not None:
            transport_socket.setsockopt(socket.IPPROTO_TCP, option, value)
