"""Logs why something fails again and again: once for each reason."""

from typing import Any

import structlog

from servicekit.database.errors import DatabaseUnavailableError, is_unavailable, reason_of

_log = structlog.get_logger()


class FailureLog:
    """The failures of one loop. The database's message is logged when it changes, not at every attempt."""

    def __init__(self, event: str, *, logs_connecting: bool = False, **facts: Any) -> None:
        """`event` is logged with `facts`.

        A database that cannot be reached fails every loop of a process: one of them logs it, with `logs_connecting`.
        """
        self._event = event
        self._logs_connecting = logs_connecting
        self._facts = facts
        # Those of this outage. A few: a reason names hosts and objects, never values.
        self._reasons: set[str] = set()

    def failed(self, exc: Exception) -> None:
        """Log a failure, unless it is the database's and its reason is logged already."""
        facts = {**self._facts, "error": type(exc).__name__}
        if not is_unavailable(exc):
            _log.warning(self._event, **facts, database_away=False)
            return
        if isinstance(exc, DatabaseUnavailableError) and not self._logs_connecting:
            return
        reason = reason_of(exc)
        if reason not in self._reasons:
            self._reasons.add(reason)
            _log.warning(self._event, **facts, database_away=True, reason=reason)

    def succeeded(self) -> None:
        """Log the next failure, also when its reason was logged before."""
        self._reasons.clear()
