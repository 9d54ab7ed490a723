"""Bytes that a connection has received and that are no message yet: headers without end, messages without their last byte.

gRPC keeps them, and no handler is called before they are complete. What the system has received on each connection is
compared with the messages that were read from it; a connection that is too far ahead is closed. So is one that
sends without calling: floods of PING, SETTINGS, of calls that are reset.
"""

import collections
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta

from servicekit.process.memory import release_free_memory
from servicekit.rpc.connections import Endpoint, close_connections, endpoint_of, received_bytes
from servicekit.rpc.refusals import RefusalMetrics

RECEIVED_BYTES = "received_bytes"
RECEIVED_BYTES_PER_CONNECTION = "received_bytes_per_connection"
# A call's headers come beside its message: as much as the server's limit of metadata.
_HEADER_BYTES = 16 << 10
# What a connection may receive besides, for ever: pings, window updates, calls that were cancelled.
_OTHER_BYTES_PER_SECOND = 256 << 10
# Looking costs milliseconds when there are a thousand connections: at most this share of the time.
_LOOK_SHARE = 0.05
_RELEASE_EVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ReceivedLimits:
    """How much may have been received that is no message yet."""

    total_bytes: int = 128 << 20
    # Of one connection: without a call that waits for its request, and at most with many. The first leaves room for requests
    # above the size limit: gRPC refuses them unread, and the caller has to see that.
    idle_bytes: int = 8 << 20
    connection_bytes: int = 16 << 20
    look_every: timedelta = timedelta(milliseconds=100)


class ReceivedBytes:
    """What one server has received on each connection beyond the messages that were read."""

    def __init__(
        self,
        limits: ReceivedLimits,
        metrics: RefusalMetrics,
        *,
        message_bytes: int,
        read: Callable[[Collection[int]], Mapping[Endpoint, int]] = received_bytes,
        close: Callable[[Collection[Endpoint]], None] = close_connections,
    ) -> None:
        """`message_bytes` is the size of the largest message. `read` returns what connections to the ports have received; `close` closes connections."""
        self._limits = limits
        self._metrics = metrics
        self._message_bytes = message_bytes
        self._read = read
        self._close = close
        # Since the last look, by the peers' names.
        self._messages: collections.Counter[str] = collections.Counter()
        # Calls that wait for their request, by the peers' names.
        self._waiting: collections.Counter[str] = collections.Counter()
        # At the last look: received in all, and beyond the messages.
        self._received: Mapping[Endpoint, int] = {}
        self._beyond: dict[Endpoint, int] = {}
        self._stopped = threading.Event()
        metrics.declare((RECEIVED_BYTES, RECEIVED_BYTES_PER_CONNECTION))

    def begin(self, peer: str) -> None:
        """Note a call whose request is to come."""
        self._waiting[peer] += 1

    def end(self, peer: str) -> None:
        """Note that it came, or that the call is over."""
        self._waiting[peer] -= 1
        if not self._waiting[peer]:
            del self._waiting[peer]

    def message(self, peer: str, size: int) -> None:
        """Note that a message was read."""
        self._messages[peer] += size + _HEADER_BYTES

    def start(self, ports: Collection[int]) -> None:
        """Look at the connections to the server's ports again and again, until `stop`.

        In a thread: headers without end become a call when their connection ends, and making its metadata holds the event
        loop, while the other connections go on sending.
        """
        threading.Thread(target=self._watch, args=(ports,), name="received-bytes", daemon=True).start()

    def stop(self) -> None:
        """Stop looking."""
        self._stopped.set()

    def _watch(self, ports: Collection[int]) -> None:
        pause = self._limits.look_every.total_seconds()
        since = released = time.monotonic()
        while not self._stopped.wait(pause):
            began = time.monotonic()
            closed = self.look(ports, began - since)
            if closed and began - released > _RELEASE_EVERY_SECONDS:
                released = began
                release_free_memory()
            since = began
            pause = max(self._limits.look_every.total_seconds(), (time.monotonic() - began) / _LOOK_SHARE)

    def look(self, ports: Collection[int], seconds: float) -> bool:
        """Close connections that are beyond the limits, `seconds` after the last look; tell whether there were any."""
        allowance = int(_OTHER_BYTES_PER_SECOND * seconds)
        messages: collections.Counter[Endpoint] = collections.Counter()
        read, self._messages = self._messages, collections.Counter()
        for peer, size in list(read.items()):
            if (endpoint := endpoint_of(peer)) is not None:
                messages[endpoint] = size
        received = self._read(ports)
        self._beyond = {
            endpoint: beyond
            for endpoint, total in received.items()
            if (
                beyond := self._beyond.get(endpoint, 0)
                + total
                - self._received.get(endpoint, 0)
                - messages[endpoint]
                - allowance
            )
            > 0
        }
        self._received = received
        closed = self._ahead()
        self._close(set(closed))
        return bool(closed)

    def _ahead(self) -> Collection[Endpoint]:
        """Return the connections that are too far ahead, and the furthest ones while all together are."""
        waiting: collections.Counter[Endpoint] = collections.Counter()
        for peer, calls in list(self._waiting.items()):
            if (found := endpoint_of(peer)) is not None:
                waiting[found] = calls
        remaining = sum(self._beyond.values())
        closed = []
        for endpoint, beyond in sorted(self._beyond.items(), key=lambda item: -item[1]):
            expected = self._limits.idle_bytes + waiting[endpoint] * self._message_bytes
            if beyond > min(expected, self._limits.connection_bytes):
                self._metrics.refused(RECEIVED_BYTES_PER_CONNECTION)
            elif remaining > self._limits.total_bytes:
                self._metrics.refused(RECEIVED_BYTES)
            else:
                continue
            closed.append(endpoint)
            remaining -= beyond
        for endpoint in closed:
            del self._beyond[endpoint]
        return closed
