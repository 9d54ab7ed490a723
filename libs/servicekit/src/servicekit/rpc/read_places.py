"""Places for heavy reads: how many run at a time, and a bounded queue for the others, in which peers take turns.

A heavy read is one whose cost grows with what is stored. Its statements have a pool of connections of their own; here is why
no more of them begin than that pool serves, so that none waits in a queue without a limit.
"""

import asyncio
import collections
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import grpc

from servicekit.rpc.refusals import RefusalMetrics
from servicekit.rpc.status_details import RpcError, RpcStatus

_KIND = "reads"
_PER_PEER = "reads_per_peer"
_TIME = "read_time"


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How many heavy reads run, and how many may wait: in all, and of one peer."""

    running: int = 3
    waiting: int = 64
    waiting_per_peer: int = 48


class ReadPlaces:
    """The places of one server."""

    def __init__(self, limits: ReadLimits, metrics: RefusalMetrics) -> None:
        """`metrics` shows the reads that run or wait as kind `reads`, and the refused ones by limit."""
        self._limits = limits
        self._metrics = metrics
        self._running = 0
        # By peer, in the order of their turns; a peer without a waiting read is not there.
        self._waiting: collections.OrderedDict[str, collections.deque[asyncio.Future[None]]] = (
            collections.OrderedDict()
        )
        metrics.declare((_KIND, _PER_PEER, _TIME))
        metrics.observe_open_calls(_KIND, lambda: self._running + self._waiting_count())

    @asynccontextmanager
    async def place(self, peer: str, *, is_bounded: bool = True) -> AsyncIterator[None]:
        """Wait for a place, and keep it for the block. Raises RpcError (RESOURCE_EXHAUSTED) when too many wait.

        Not `is_bounded` are the reads of streams: there are no more of them than streams.
        """
        await self._enter(peer, is_bounded=is_bounded)
        try:
            yield
        finally:
            self._leave()

    def too_long(self) -> RpcError:
        """Count a read that the database ended after the longest time it may take; returns the caller's error."""
        self._metrics.refused(_TIME)
        return RpcError(_TOO_LONG)

    async def _enter(self, peer: str, *, is_bounded: bool) -> None:
        if self._running < self._limits.running:
            self._running += 1
            return
        if is_bounded:
            self._require_room(peer)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(peer, collections.deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # Its turn came together with the end of its caller's deadline.
                self._leave()
            else:
                self._forget(peer, turn)
            raise

    def _require_room(self, peer: str) -> None:
        if len(self._waiting.get(peer, ())) >= self._limits.waiting_per_peer:
            self._metrics.refused(_PER_PEER)
            raise RpcError(_FULL)
        if self._waiting_count() >= self._limits.waiting:
            self._metrics.refused(_KIND)
            raise RpcError(_FULL)

    def _leave(self) -> None:
        """Give the place to the next peer in turn, or free it."""
        while self._waiting:
            peer, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[peer] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1

    def _forget(self, peer: str, turn: "asyncio.Future[None]") -> None:
        turns = self._waiting.get(peer)
        if turns is None or turn not in turns:
            return
        turns.remove(turn)
        if not turns:
            del self._waiting[peer]

    def _waiting_count(self) -> int:
        return sum(map(len, self._waiting.values()))


_FULL = RpcStatus(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "too many lists and searches wait for the database, try again",
    "TOO_MANY_READS",
    retry_after=timedelta(seconds=1),
)
_TOO_LONG = RpcStatus(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "the database needs too long for this: ask for less, by narrower criteria",
    "READ_TOO_LONG",
)
