"""Turns of load on one server, with what they cost in processor time."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmarks.incidents import RESOLVE_PATH
from benchmarks.lab import Lab
from benchmarks.load import Load, make_load
from benchmarks.servers import RunningServer


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a benchmark measures."""

    turns: int
    # Calls of one turn of the service; the echo, being faster, gets twice as many where both are loaded fully.
    calls: int
    # Calls of one turn where one caller waits for each.
    calls_one_caller: int
    # Deliveries that wait for the end of an outage.
    backlog: int
    # Resolves after which a service's memory is read.
    memory: tuple[int, int]
    # Incidents of a long history and of a short one, and the page of List that is far.
    stored: tuple[int, int]
    pages: int
    # Whether nothing may be fetched: what is measured against is left out where it is not there.
    offline: bool = False


FULL = Effort(
    turns=7,
    calls=5_000,
    calls_one_caller=500,
    backlog=10_000,
    memory=(1_000, 100_000),
    stored=(1_000_000, 1_000),
    pages=1_000,
)
SHORT = Effort(
    turns=1,
    calls=200,
    calls_one_caller=20,
    backlog=200,
    memory=(100, 300),
    stored=(2_000, 500),
    pages=20,
    offline=True,
)
# For a flame graph: long enough to see where the time goes.
RECORDED = replace(FULL, turns=1, calls=10_000, calls_one_caller=1_000)
# The least number of turns, where one takes long.
FEW_TURNS = 5


@dataclass(slots=True)
class MeasuredServer:
    """A server under load, turn after turn."""

    lab: Lab
    server: RunningServer
    outstanding: int
    connections: int
    loads: list[Load] = field(default_factory=list)
    _server_seconds: float = 0.0
    _postgres_seconds: float = 0.0

    def turn(self, messages: Sequence[bytes]) -> Load:
        """Make load with these requests and keep what was measured. Raises BenchmarkError when a call fails."""
        server, postgres = self.server.processor_seconds(), self.lab.postgres_seconds()
        # The echo is what it is.
        recorded = {} if self.server is self.lab.echo else {"incident": self.server.process.pid}
        with self.lab.recorder.recording(recorded):
            load = make_load(
                self.server.address,
                RESOLVE_PATH,
                messages,
                outstanding=self.outstanding,
                connections=self.connections,
                access=self.server.access,
            )
        self._server_seconds += self.server.processor_seconds() - server
        self._postgres_seconds += self.lab.postgres_seconds() - postgres
        self.loads.append(load)
        return load

    @property
    def processor(self) -> str:
        """Microseconds of processor time of one call: the server's, PostgreSQL's, the load generator's."""
        calls = sum(load.calls for load in self.loads)
        generator = sum(load.generator_seconds for load in self.loads)
        costs = (self._server_seconds, self._postgres_seconds, generator)
        return " + ".join(f"{cost / calls * 1e6:.0f}" for cost in costs)
