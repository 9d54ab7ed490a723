"""What an HTTP server takes at most, and the count of what it refused."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client.core import CounterMetricFamily, Metric


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of one server. Each is enforced by servicekit.http alone."""

    # At the limit, the connection that has waited longest for a request is closed for the new one.
    connections: int = 1_000
    connections_per_peer: int = 250
    # From the first byte of a connection, or of a request on it, to the end of its headers.
    header_time: timedelta = timedelta(seconds=10)
    # Prometheus keeps its connection open between scrapes, up to some minutes.
    idle_time: timedelta = timedelta(minutes=3)
    # How long a client may read nothing of a response.
    write_time: timedelta = timedelta(seconds=30)
    header_bytes: int = 16 << 10
    # Of one request. 0: none may have a body.
    body_bytes: int = 0
    # Of all requests that are being answered: bodies, and what is made of them, stay in memory.
    bodies_bytes: int = 64 << 20
    # From the end of a request's headers to the end of its body.
    body_time: timedelta = timedelta(seconds=10)


class HttpRefusals:
    """Counts what a limit refused. A collector of prometheus_client."""

    LIMITS = (
        "connections",
        "connections_per_peer",
        "header_time",
        "write_time",
        "header_bytes",
        "body",
        "bodies",
        "body_time",
        "host",
        "tls_handshake",
        "authentication",
    )

    def __init__(self) -> None:
        self.counts = dict.fromkeys(self.LIMITS, 0)

    def add(self, limit: str) -> None:
        """Count one."""
        self.counts[limit] += 1

    def collect(self) -> Iterable[Metric]:
        """Return `http_server_refused_total`, by limit."""
        family = CounterMetricFamily(
            "http_server_refused",
            "Connections and requests over HTTP that a limit of this process refused.",
            labels=["limit"],
        )
        for limit, count in self.counts.items():
            family.add_metric([limit], count)
        yield family
