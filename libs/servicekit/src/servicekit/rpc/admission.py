"""Places for calls: how many may be open at a time, in all, of one peer and of one identity.

A call takes its place when its headers arrive, before its request is read, and keeps it until its answer was sent. One that
waits for its request, or whose caller does not read the answer, never keeps another out: at a limit, the one that has waited
longest is ended for the new one.
"""

import asyncio
import collections
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import grpc.aio

from servicekit.identity.identity import PERSONAL
from servicekit.rpc.context import Context
from servicekit.rpc.identity import current_identity
from servicekit.rpc.received_bytes import ReceivedBytes
from servicekit.rpc.refusals import RefusalMetrics
from servicekit.rpc.shared_timeout import SharedTimeout
from servicekit.rpc.status_details import RpcError, RpcStatus
from servicekit.rpc.unsent_responses import Unsent, UnsentResponses

REQUEST_TIME = "request_time"
_RETRY_AFTER = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class PlaceLimits:
    """How many calls of one kind may be open."""

    total: int
    per_peer: int
    # Of one authenticated caller, from however many addresses; of services, which work for many, the total counts alone.
    # None: no limit.
    per_identity: int | None = None
    # Whether a call whose request was read is ended, too, for a new one: for calls that a client makes again at once.
    evicts_running: bool = False


def address_of(connection: str) -> str:
    """Return the address of a peer without its port: `ipv4:10.0.0.1`."""
    return connection.rpartition(":")[0]


class Place:
    """The place of one call."""

    __slots__ = ("_task", "connection", "evicted", "identity", "left", "peer", "unsent", "waits")

    def __init__(self, connection: str, identity: str, task: "asyncio.Task[object]") -> None:
        """`identity` is empty for a caller that the limit of identities does not concern."""
        self.connection = connection
        self.identity = identity
        # Its address without the port: `ipv4:10.0.0.1`.
        self.peer = address_of(connection)
        self.evicted = False
        self.left = False
        # Whether its request is to come.
        self.waits = True
        self.unsent: Unsent | None = None
        self._task = task

    def evict(self) -> None:
        """End the call."""
        self.evicted = True
        self._task.cancel()

    def raise_if_evicted(self) -> None:
        """Raise RpcError when the cancellation that the call's task just saw was this place's, and clear it."""
        if self.evicted and self._task.uncancel() == 0:
            raise RpcError(_EVICTED) from None


class Places:
    """The open calls of one kind."""

    def __init__(
        self,
        kind: str,
        limits: PlaceLimits,
        metrics: RefusalMetrics,
        unsent: UnsentResponses,
        received: ReceivedBytes,
        *,
        request_time: timedelta,
    ) -> None:
        """`kind` names the limits in the series: `<kind>`, `<kind>_per_peer` and `<kind>_per_identity`.

        `request_time` is how long a call may wait for its request.
        """
        self._request_time = SharedTimeout(request_time.total_seconds())
        self._limits = limits
        self._metrics = metrics
        self._unsent = unsent
        self._received = received
        self._total_limit, self._peer_limit = kind, f"{kind}_per_peer"
        self._identity_limit = f"{kind}_per_identity"
        # In the order in which they arrived.
        self._waiting: collections.OrderedDict[Place, None] = collections.OrderedDict()
        self._running: collections.OrderedDict[Place, None] = collections.OrderedDict()
        # Those among the running that have unsent bytes, in the order in which they began to send.
        self._sending: collections.OrderedDict[Place, None] = collections.OrderedDict()
        # Not counters: those cost several times as much.
        self._of_peer: dict[str, int] = {}
        self._of_identity: dict[str, int] = {}
        limited = () if limits.per_identity is None else (self._identity_limit,)
        metrics.declare((self._total_limit, self._peer_limit, *limited, REQUEST_TIME))
        metrics.observe_open_calls(kind, lambda: sum(self._of_peer.values()))

    def enter(self, context: Context) -> Place:
        """Give the call of the current task a place, which `leave` frees.

        Raises RpcError (RESOURCE_EXHAUSTED) when there is none. The call may be cancelled later for another one:
        `Place.raise_if_evicted` tells.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a place belongs to a task")
        place = Place(context.peer(), self._limited_identity(), task)
        peer, identity = place.peer, place.identity
        if identity and self._of_identity.get(identity, 0) >= (self._limits.per_identity or 0):
            self._evict(lambda each: each.identity == identity, self._identity_limit)
        elif self._of_peer.get(peer, 0) >= self._limits.per_peer:
            self._evict(lambda each: each.peer == peer, self._peer_limit)
        elif len(self._waiting) + len(self._running) >= self._limits.total:
            self._evict(lambda _each: True, self._total_limit)
        self._of_peer[peer] = self._of_peer.get(peer, 0) + 1
        if identity:
            self._of_identity[identity] = self._of_identity.get(identity, 0) + 1
        self._waiting[place] = None
        self._received.begin(place.connection)
        return place

    async def request(self, place: Place, context: Context) -> Any:
        """Return the call's request. Raises RpcError when it does not come in time, or not at all."""
        # The caller's deadline, when it is shorter, ends the call before.
        reading = self._request_time.begin()
        try:
            request = await context.read()
        except asyncio.CancelledError:
            if self._request_time.end(reading):
                self._metrics.refused(REQUEST_TIME)
                raise RpcError(_NO_REQUEST_IN_TIME) from None
            raise
        except BaseException:
            self._request_time.end(reading)
            raise
        self._request_time.end(reading)
        if request is grpc.aio.EOF:
            raise RpcError(_NO_REQUEST)
        self._received.message(place.connection, _size(request))
        self._has_request(place)
        self._waiting.pop(place, None)
        if not place.evicted:
            self._running[place] = None
        return request

    def writes(self, place: Place, size: int) -> None:
        """Note that `size` bytes are about to be sent. Raises RpcError when too much is unsent already."""
        place.unsent = self._unsent.begin(place.connection, size, partial(self.leave, place))
        self._sending[place] = None

    def written(self, place: Place) -> None:
        """Note that they were sent."""
        if place.unsent is not None:
            self._unsent.end(place.unsent)
            place.unsent = None
            self._sending.pop(place, None)

    def answers(self, place: Place, context: Context, size: int) -> None:
        """Note that the call's only answer is about to be sent, and free the place when it was. Raises as `writes`."""
        self.writes(place, size)
        # The type stubs of grpc.aio want a callback for the threaded server's context.
        add_done_callback: Any = context.add_done_callback
        add_done_callback(lambda _context: self.leave(place))

    def leave(self, place: Place) -> None:
        """Free a place, once."""
        if place.left:
            return
        place.left = True
        self.written(place)
        self._has_request(place)
        self._waiting.pop(place, None)
        self._running.pop(place, None)
        _lower(self._of_peer, place.peer)
        if place.identity:
            _lower(self._of_identity, place.identity)

    def _has_request(self, place: Place) -> None:
        if place.waits:
            place.waits = False
            self._received.end(place.connection)

    def _limited_identity(self) -> str:
        """Return the caller whose calls are limited; empty when they are not."""
        if self._limits.per_identity is None:
            return ""
        identity = current_identity()
        return identity.name if identity.method in PERSONAL else ""

    def _evict(self, is_candidate: Callable[[Place], bool], limit: str) -> None:
        self._metrics.refused(limit)
        if self._limits.evicts_running:
            candidates = list(filter(is_candidate, (*self._waiting, *self._running)))
            if candidates:
                self._end(_of_busiest_connection(candidates))
                return
        elif (waiting := next(filter(is_candidate, self._waiting), None)) is not None:
            self._end(waiting)
            return
        oldest = next(filter(is_candidate, self._sending), None)
        if oldest is not None and self._unsent.evict(oldest.unsent):
            return
        raise RpcError(_FULL)

    def _end(self, place: Place) -> None:
        if place.unsent is not None:
            # Its task could be ended, but not the write.
            self._unsent.close(place.unsent)
            return
        self._waiting.pop(place, None)
        self._running.pop(place, None)
        place.evict()


_FULL = RpcStatus(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "too many calls are open, try again",
    "TOO_MANY_CALLS",
    retry_after=_RETRY_AFTER,
)
_EVICTED = RpcStatus(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "this call was ended for another one: too many are open",
    "TOO_MANY_CALLS",
    retry_after=_RETRY_AFTER,
)
_NO_REQUEST_IN_TIME = RpcStatus(
    grpc.StatusCode.DEADLINE_EXCEEDED, "the request did not arrive in time", "REQUEST_TIMEOUT"
)
_NO_REQUEST = RpcStatus(grpc.StatusCode.INVALID_ARGUMENT, "the call has no request", "NO_REQUEST")


def _of_busiest_connection(places: Sequence[Place]) -> Place:
    """Return the first place of the connection that has the most of them.

    A client that checks health has one watch on its connection, and makes no calls while that is ended for another's.
    """
    counts = collections.Counter(each.connection for each in places)
    busiest = max(counts, key=counts.__getitem__)
    return next(each for each in places if each.connection == busiest)


def _lower(counts: dict[str, int], key: str) -> None:
    remaining = counts[key] - 1
    if remaining:
        counts[key] = remaining
    else:
        del counts[key]


def _size(request: Any) -> int:
    """Return the bytes of a request, which gRPC has parsed already when it is for one of its own services."""
    return len(request) if isinstance(request, bytes) else request.ByteSize()
