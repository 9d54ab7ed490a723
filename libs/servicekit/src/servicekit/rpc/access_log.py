"""Counts and logs the calls that were refused to their caller. Sampled: a caller cannot fill the log."""

import time
from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Counter

from servicekit.identity.credentials import Refusal
from servicekit.identity.identity import Identity
from servicekit.rpc.context import Context

_log = structlog.get_logger()

# Of refusals for the same reason at the same method one line is written in this time; it says how many it stands for.
_EVERY_SECONDS = 10.0
_DENIALS = ("role_missing", "actor_mismatch")


class AccessLog:
    """`grpc_server_unauthenticated_total` and `grpc_server_permission_denied_total` by reason, and their lines in the log."""

    def __init__(self, registry: CollectorRegistry, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._unauthenticated = Counter(
            "grpc_server_unauthenticated",
            "Calls refused because their credentials do not prove a caller.",
            ("reason",),
            registry=registry,
        )
        self._denied = Counter(
            "grpc_server_permission_denied",
            "Calls refused because their caller has no role for them, or claimed another name.",
            ("reason",),
            registry=registry,
        )
        for refusal in Refusal:
            self._unauthenticated.labels(reason=refusal.value)
        for reason in _DENIALS:
            self._denied.labels(reason=reason)
        # When a line was last written, and how many refusals since: of our reasons and methods, so it stays small.
        self._lines: dict[tuple[str, str], tuple[float, int]] = {}

    def unauthenticated(self, refusal: Refusal, method: str, context: Context) -> None:
        """Record a call without valid credentials. Nothing of them is written."""
        self._unauthenticated.labels(reason=refusal.value).inc()
        if (suppressed := self._due(refusal.value, method)) is not None:
            _log.warning(
                "rpc_unauthenticated",
                method=method,
                reason=refusal.value,
                peer=context.peer(),
                suppressed=suppressed,
            )

    def denied(self, reason: str, method: str, identity: Identity) -> None:
        """Record a call that its caller may not make."""
        self._denied.labels(reason=reason).inc()
        if (suppressed := self._due(reason, method)) is not None:
            _log.warning(
                "rpc_permission_denied",
                method=method,
                reason=reason,
                actor=identity.name,
                suppressed=suppressed,
            )

    def _due(self, reason: str, method: str) -> int | None:
        """Return how many lines were left out since the last one; None when this one is left out, too."""
        now = self._clock()
        written, suppressed = self._lines.get((reason, method), (-_EVERY_SECONDS, 0))
        if now - written < _EVERY_SECONDS:
            self._lines[reason, method] = (written, suppressed + 1)
            return None
        self._lines[reason, method] = (now, 0)
        return suppressed
