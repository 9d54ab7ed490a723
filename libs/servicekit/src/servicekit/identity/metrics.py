"""The series about identities: where they come from, and who was refused."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class SourceMetrics:
    """Whether tokens, role mapping and signing keys are current."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._usable = Gauge(
            "identity_source_usable",
            "Whether a file or URL that identities are verified by could be used at the last attempt.",
            ("source",),
            registry=registry,
        )
        self._failures = Counter(
            "identity_source_failures",
            "Attempts to read a file or URL that identities are verified by, which failed.",
            ("source",),
            registry=registry,
        )

    def declare(self, source: str) -> None:
        """Export a source before its first attempt."""
        self._usable.labels(source=source).set(0)
        self._failures.labels(source=source)

    def succeeded(self, source: str) -> None:
        """Record an attempt that succeeded."""
        self._usable.labels(source=source).set(1)

    def failed(self, source: str) -> None:
        """Record an attempt that failed."""
        self._usable.labels(source=source).set(0)
        self._failures.labels(source=source).inc()
