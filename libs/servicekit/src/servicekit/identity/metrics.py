"""The series about identities: where they come from, and who was refused."""

from collections.abc import Collection

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
        self._unusable: set[str] = set()

    @property
    def unusable(self) -> Collection[str]:
        """The sources that could not be used at the last attempt; changes with them."""
        return self._unusable

    def declare(self, source: str) -> None:
        """Export a source before its first attempt."""
        self._set(source, usable=False)
        self._failures.labels(source=source)

    def succeeded(self, source: str) -> None:
        """Record an attempt that succeeded."""
        self._set(source, usable=True)

    def failed(self, source: str) -> None:
        """Record an attempt that failed."""
        self._set(source, usable=False)
        self._failures.labels(source=source).inc()

    def _set(self, source: str, *, usable: bool) -> None:
        self._usable.labels(source=source).set(usable)
        (self._unusable.discard if usable else self._unusable.add)(source)
