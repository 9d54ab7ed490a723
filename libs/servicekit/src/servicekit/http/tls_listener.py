"""Accepts connections over TLS: their handshakes are within the same bounds as all that follows.

The event loop's own server would keep a connection from every bound until its handshake has ended.
"""

import asyncio
import errno
import socket
from collections.abc import Callable

from servicekit.http.connections import BoundedConnection, ConnectionPool
from servicekit.http.tls import HttpTls

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NO_ROOM_SECONDS = 0.1


class TlsListener:
    """Listens on a socket, with uvicorn's idea of a server: `close` and `wait_closed`."""

    def __init__(
        self,
        listening: socket.socket,
        pool: ConnectionPool,
        tls: HttpTls,
        make: Callable[[], BoundedConnection],
    ) -> None:
        """`make` makes what takes a connection when its handshake has ended. Must be called in the event loop."""
        self._pool = pool
        self._tls = tls
        self._make = make
        self._handshakes: set[_Handshake] = set()
        listening.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(listening))

    def close(self) -> None:
        """Accept no more connections, and end those that have not begun."""
        self._accepting.cancel()
        for handshake in self._handshakes:
            handshake.evict()

    async def wait_closed(self) -> None:
        """Return when all of this has ended; connections that have begun go on."""
        tasks = [self._accepting, *(handshake.task for handshake in self._handshakes)]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as exc:
                # Any other is of one connection, which is gone.
                if exc.errno in _NO_ROOM:
                    await asyncio.sleep(_NO_ROOM_SECONDS)
                continue
            handshake = _Handshake(str(address[0]))
            handshake.task = asyncio.create_task(self._secure(handshake, accepted))
            self._handshakes.add(handshake)
            self._pool.add(handshake)

    async def _secure(self, handshake: "_Handshake", accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make,
                accepted,
                ssl=self._tls.context,
                ssl_handshake_timeout=self._pool.limits.header_time.total_seconds(),
            )
        except OSError:
            # A peer that breaks off, speaks no TLS, shows a bad certificate or takes too long.
            self._pool.refusals.add("tls_handshake")
        finally:
            self._pool.remove(handshake)
            self._handshakes.discard(handshake)


class _Handshake:
    """A connection that has not begun."""

    task: "asyncio.Task[None]"

    def __init__(self, peer: str) -> None:
        self.peer = peer

    def evict(self) -> None:
        """End it."""
        self.task.cancel()
