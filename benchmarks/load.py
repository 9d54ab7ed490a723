"""Makes load: a number of calls, so many of them in flight at a time, from one thread of this process."""

import selectors
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from statistics import median

from benchmarks.errors import BenchmarkError
from benchmarks.http2 import IN_THE_CLEAR, Access, Connection, ConnectionEndedError, length_prefixed

_SILENT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What one turn of load measured, all of it in seconds; `generator_seconds` is processor time of this process."""

    calls: int
    seconds: float
    latencies: Sequence[float]
    generator_seconds: float

    @property
    def rate(self) -> float:
        """Calls answered a second."""
        return self.calls / self.seconds

    @property
    def median_latency(self) -> float:
        """The median of a call's time, sent to answered."""
        return median(self.latencies)


def make_load(
    address: str,
    path: str,
    messages: Sequence[bytes],
    *,
    outstanding: int,
    connections: int,
    access: Access = IN_THE_CLEAR,
) -> Load:
    """Call `path` once with each of the serialized `messages`, `outstanding` at a time over `connections`.

    Raises BenchmarkError when any call fails or the server falls silent: what was measured then means nothing.
    """
    prepared = [length_prefixed(message) for message in messages]
    pending = iter(prepared)
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        try:
            opened = [
                stack.enter_context(
                    closing(Connection(address, path, outstanding=outstanding // connections, access=access))
                )
                for _ in range(connections)
            ]
        except OSError as exc:
            raise BenchmarkError(f"the load cannot reach {address}: {exc}") from exc
        for connection in opened:
            selector.register(connection, selectors.EVENT_READ, connection)
        started, processor = time.perf_counter(), time.process_time()
        for connection in opened:
            connection.send(pending)
        try:
            while any(connection.is_waiting for connection in opened):
                ready = selector.select(_SILENT_SECONDS)
                if not ready:
                    raise BenchmarkError(f"{path} did not answer for {_SILENT_SECONDS:.0f} s")
                for key, _ in ready:
                    readable: Connection = key.data
                    readable.receive()
                    readable.send(pending)
        except (ConnectionEndedError, OSError) as exc:
            raise BenchmarkError(f"the load on {path} broke off: {exc}") from exc
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
    failed = sum(connection.failed for connection in opened)
    latencies = [latency for connection in opened for latency in connection.latencies]
    if failed or len(latencies) != len(prepared):
        raise BenchmarkError(f"{len(prepared) - len(latencies)} of {len(prepared)} calls of {path} failed")
    return Load(len(prepared), seconds, latencies, processor)
