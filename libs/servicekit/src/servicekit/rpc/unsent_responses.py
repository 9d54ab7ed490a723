"""Answers on their way: how many bytes may be unsent at a time, and for how long.

A caller that reads nothing (an HTTP/2 window of 0, a stopped process) leaves its answers in this process's memory, past every
deadline: gRPC ends the handler, not the write. Here each answer is known until gRPC has sent it. One that takes too long ends
with its connection, and so does the one that has waited longest when the bytes are needed for a new answer.
"""

import asyncio
import collections
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta

import grpc

from servicekit.rpc.connections import Endpoint, close_connections, endpoint_of
from servicekit.rpc.refusals import RefusalMetrics
from servicekit.rpc.status_details import RpcError, RpcStatus

UNSENT_BYTES = "unsent_bytes"
WRITE_TIME = "write_time"
# An answer that a caller reads is sent in milliseconds: a younger one is never ended for another.
_YOUNGEST_EVICTED_SECONDS = 1.0
# Looking up connections costs milliseconds: those that are to be closed are closed together.
_CLOSE_EVERY_SECONDS = 0.1
_LOOK_EVERY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class UnsentLimits:
    """How much may be unsent."""

    # Of all callers together. The process holds about twice as much: the message, and gRPC's copy.
    total_bytes: int = 64 << 20
    # From an answer to the caller's having read it.
    write_time: timedelta = timedelta(seconds=30)


class Unsent:
    """An answer that is on its way to the peer of a connection."""

    __slots__ = ("connection", "on_close", "since", "size")

    def __init__(self, connection: str, size: int, since: float, on_close: Callable[[], None]) -> None:
        self.connection = connection
        self.size = size
        self.since = since
        self.on_close = on_close


class UnsentResponses:
    """The unsent answers of one server."""

    def __init__(
        self,
        limits: UnsentLimits,
        metrics: RefusalMetrics,
        close: Callable[[Collection[Endpoint]], None] = close_connections,
    ) -> None:
        """`close` closes connections."""
        self._limits = limits
        self._write_seconds = limits.write_time.total_seconds()
        self._look_every = min(_LOOK_EVERY_SECONDS, self._write_seconds)
        self._youngest_evicted = min(_YOUNGEST_EVICTED_SECONDS, self._write_seconds)
        self._metrics = metrics
        metrics.declare((UNSENT_BYTES, WRITE_TIME))
        metrics.observe_unsent_bytes(lambda: self._bytes)
        self._close = close
        self._closing: set[str] = set()
        # In the order in which they began.
        self._answers: collections.OrderedDict[Unsent, None] = collections.OrderedDict()
        self._bytes = 0
        self._looks = False

    def begin(self, connection: str, size: int, on_close: Callable[[], None]) -> Unsent:
        """Note an answer of `size` bytes that is about to be sent; `end` notes that it was.

        `on_close` is called when its connection is closed before. Raises RpcError (RESOURCE_EXHAUSTED) when too much is
        unsent already.
        """
        while self._bytes + size > self._limits.total_bytes and self._answers:
            self._metrics.refused(UNSENT_BYTES)
            if not self.evict(next(iter(self._answers))):
                raise RpcError(_FULL)
        loop = asyncio.get_running_loop()
        answer = Unsent(connection, size, loop.time(), on_close)
        self._answers[answer] = None
        self._bytes += size
        if not self._looks:
            self._looks = True
            loop.call_later(self._look_every, self._look)
        return answer

    def end(self, answer: Unsent) -> None:
        """Note that an answer was sent, or that its call is over."""
        if answer in self._answers:
            del self._answers[answer]
            self._bytes -= answer.size

    def evict(self, answer: Unsent | None) -> bool:
        """End an answer with its connection if it is old enough; tell whether it was."""
        if answer is None or answer.since > asyncio.get_running_loop().time() - self._youngest_evicted:
            return False
        self.close(answer)
        return True

    def close(self, answer: Unsent) -> None:
        """End an answer with its connection."""
        self.end(answer)
        answer.on_close()
        self.close_connection(answer.connection)

    def close_connection(self, connection: str) -> None:
        """Close a connection, soon."""
        if not self._closing:
            asyncio.get_running_loop().call_later(_CLOSE_EVERY_SECONDS, self._close_all)
        self._closing.add(connection)

    def _close_all(self) -> None:
        peers, self._closing = self._closing, set()
        self._close({endpoint for peer in peers if (endpoint := endpoint_of(peer)) is not None})

    def _look(self) -> None:
        """End answers whose time is over, and look again while there are any."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._write_seconds
        while self._answers and (answer := next(iter(self._answers))).since <= oldest:
            self._metrics.refused(WRITE_TIME)
            self.close(answer)
        self._looks = bool(self._answers)
        if self._looks:
            loop.call_later(self._look_every, self._look)


_FULL = RpcStatus(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "too many bytes of answers are unsent, try again",
    "TOO_MANY_UNSENT_BYTES",
    retry_after=timedelta(seconds=1),
)
