"""What one gRPC server takes at most."""

from dataclasses import dataclass, field
from datetime import timedelta

from servicekit.rpc.admission import PlaceLimits
from servicekit.rpc.read_places import ReadLimits
from servicekit.rpc.received_bytes import ReceivedLimits
from servicekit.rpc.unsent_responses import UnsentLimits


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one server takes at most."""

    message_bytes: int = 1 << 20
    metadata_bytes: int = 16 << 10
    # Unary calls; streams, such as Watch; calls and streams of health and reflection. What is beyond them fails with
    # RESOURCE_EXHAUSTED at once. A health watch is made again by its client: the oldest is ended for a new one.
    calls: PlaceLimits = field(default=PlaceLimits(2_000, per_peer=1_500, per_identity=500))
    streams: PlaceLimits = field(default=PlaceLimits(1_000, per_peer=500, per_identity=100))
    own_calls: PlaceLimits = field(default=PlaceLimits(300, per_peer=100, evicts_running=True))
    # Of the unary calls, lists and searches: those that run, and those that wait for that.
    reads: ReadLimits = field(default=ReadLimits())
    # Of any kind, on one connection; those beyond it wait in the client.
    calls_per_connection: int = 250
    # From a call's headers to its request.
    request_time: timedelta = timedelta(seconds=10)
    unsent: UnsentLimits = field(default=UnsentLimits())
    received: ReceivedLimits = field(default=ReceivedLimits())
    # From a connection's beginning to HTTP/2's.
    handshake_time: timedelta = timedelta(seconds=10)
    # A connection without calls is closed; its client opens another with its next call.
    idle_time: timedelta = timedelta(minutes=15)
    # A connection this old is closed once its calls have ended, a tenth earlier or later, and its client opens another for its
    # next call: it looks its addresses up again, and finds servers that are new. None: never.
    connection_age: timedelta | None = None
    connections: int = 1_000
    # How often a client may ping, with or without calls.
    ping_interval: timedelta = timedelta(seconds=5)
    # Calls per second of one person or job, twice as many at once; 0: no limit.
    calls_per_second: int = 500
    # How often the caller of an open stream is verified again.
    verify_streams: timedelta = timedelta(seconds=2)
    # Longest time a unary call may run; a caller's shorter deadline holds besides.
    deadline: timedelta = timedelta(seconds=30)
    # How long calls in flight may go on after SIGTERM.
    drain: timedelta = timedelta(seconds=10)

    @property
    def open_calls(self) -> int:
        """How many calls of all kinds may be open."""
        return self.calls.total + self.streams.total + self.own_calls.total
