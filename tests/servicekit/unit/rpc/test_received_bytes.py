"""A connection that receives more than the messages that were read from it is closed."""

from collections.abc import Collection, Mapping

from prometheus_client import CollectorRegistry

from servicekit.rpc.connections import Endpoint, endpoint_of
from servicekit.rpc.received_bytes import ReceivedBytes, ReceivedLimits
from servicekit.rpc.refusals import RefusalMetrics

A, B, C = "ipv4:10.0.0.1:1", "ipv4:10.0.0.1:2", "ipv6:%5Bfd00::1%5D:3"
MIB = 1 << 20


class World:
    """What the system has received, and what was closed."""

    def __init__(self) -> None:
        self.received: dict[str, int] = {}
        self.closed: list[Endpoint] = []
        self.registry = CollectorRegistry()
        self.bytes = ReceivedBytes(
            ReceivedLimits(total_bytes=20 * MIB, idle_bytes=10 * MIB, connection_bytes=12 * MIB),
            RefusalMetrics(self.registry),
            message_bytes=MIB,
            read=self._read,
            close=self._close,
        )

    def look(self, **received: int) -> list[Endpoint]:
        """Receive more on the connections, look, and return what was closed."""
        for name, size in received.items():
            peer = {"a": A, "b": B, "c": C}[name]
            self.received[peer] = self.received.get(peer, 0) + size
        self.closed = []
        assert self.bytes.look({1}, 0.25) == bool(self.closed)
        return sorted(self.closed)

    def refusals(self, limit: str) -> float | None:
        return self.registry.get_sample_value("grpc_server_refused_total", {"limit": limit})

    def _read(self, _ports: Collection[int]) -> Mapping[Endpoint, int]:
        return {endpoint: size for peer, size in self.received.items() if (endpoint := endpoint_of(peer))}

    def _close(self, endpoints: Collection[Endpoint]) -> None:
        self.closed += endpoints


def test_a_connection_far_ahead_of_its_messages_is_closed() -> None:
    world = World()
    assert world.look(a=9 * MIB, b=MIB) == []
    assert world.look(a=2 * MIB) == [("10.0.0.1", 1)]
    assert world.refusals("received_bytes_per_connection") == 1
    assert world.refusals("received_bytes") == 0


def test_the_furthest_go_first_while_all_together_are_too_many() -> None:
    world = World()
    assert world.look(a=9 * MIB, b=7 * MIB, c=8 * MIB) == [("10.0.0.1", 1)]
    assert world.refusals("received_bytes") == 1


def test_messages_count_as_soon_as_they_are_read_whenever_they_were_received() -> None:
    world = World()
    for _ in range(20):
        world.bytes.message(C, 4 * MIB)
        world.bytes.message(C, 5 * MIB)
        assert world.look(c=9 * MIB) == []
    # In part before it is read, and the rest with it.
    assert world.look(c=8 * MIB) == []
    world.bytes.message(C, 12 * MIB)
    assert world.look(c=4 * MIB) == []
    assert world.look(c=9 * MIB) == []


def test_messages_that_were_read_buy_nothing_for_later() -> None:
    world = World()
    world.bytes.message(A, 100 * MIB)
    assert world.look(a=MIB) == []
    assert world.look(a=11 * MIB) == [("10.0.0.1", 1)]


def test_what_a_connection_receives_besides_calls_is_allowed_for_ever_at_a_small_rate() -> None:
    world = World()
    for _ in range(2_000):
        assert world.look(a=60_000) == []


def test_a_new_connection_of_the_same_peer_begins_with_nothing() -> None:
    world = World()
    assert world.look(a=9 * MIB) == []
    del world.received[A]
    assert world.look() == []
    assert world.look(a=9 * MIB) == []


def test_calls_that_wait_for_their_request_let_more_come_up_to_a_limit() -> None:
    world = World()
    world.bytes.begin(A)
    assert world.look(a=10 * MIB + 500_000) == []
    world.bytes.end(A)
    assert world.look(a=100_000) == [("10.0.0.1", 1)]
    for _ in range(100):
        world.bytes.begin(B)
    assert world.look(b=11 * MIB) == []
    assert world.look(b=2 * MIB) == [("10.0.0.1", 2)]
