"""What limits of a server refused, and how much of them is used: its series."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge


class RefusalMetrics:
    """`grpc_server_refused_total` by limit, `grpc_server_open_calls` by kind, and `grpc_server_unsent_bytes`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.counts: dict[str, int] = {}
        self._open = Gauge(
            "grpc_server_open_calls",
            "Calls that are open, those that wait for their request and those whose answer is unsent included.",
            ("kind",),
            registry=registry,
        )
        self._unsent = Gauge(
            "grpc_server_unsent_bytes",
            "Bytes of answers that their callers have not read.",
            registry=registry,
        )
        self._refused = Counter(
            "grpc_server_refused",
            "Calls and answers that a limit of this process refused, or ended for others.",
            ("limit",),
            registry=registry,
        )

    def declare(self, limits: Iterable[str]) -> None:
        """Export limits before they refuse anything."""
        for limit in limits:
            self.counts.setdefault(limit, 0)
            self._refused.labels(limit=limit)

    def observe_open_calls(self, kind: str, count: Callable[[], float]) -> None:
        """Export the open calls of a kind."""
        self._open.labels(kind=kind).set_function(count)

    def observe_unsent_bytes(self, count: Callable[[], float]) -> None:
        """Export the unsent bytes."""
        self._unsent.set_function(count)

    def refused(self, limit: str) -> None:
        """Count one."""
        self.counts[limit] = self.counts.get(limit, 0) + 1
        self._refused.labels(limit=limit).inc()
