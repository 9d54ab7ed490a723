"""The routes of notifications in force, read again for each message.

Unlike auto-approval they fail open: while the file cannot be used the routes before hold, and without any every channel is
notified. The kill switch of auto-approval is about rules, not about routes.
"""

import asyncio

import structlog

from approval.policy.file import PolicyFileError
from approval.policy.reader import PolicyReader
from approval.policy.routes import Routes

_log = structlog.get_logger()


class CurrentRoutes:
    """Reads the routes in force."""

    def __init__(self, reader: PolicyReader | None) -> None:
        """Without a `reader` every message goes to every channel."""
        self._reader = reader
        self._routes = Routes()
        self._problem = ""

    async def routes(self) -> Routes:
        """Return the routes in the file now; those before while it cannot be used."""
        if self._reader is None:
            return self._routes
        try:
            policy = await asyncio.to_thread(self._reader.read)
        except PolicyFileError as exc:
            if self._problem != str(exc):
                self._problem = str(exc)
                _log.warning("notification_routes_unchanged", reason=f"{self._reader.file}: {exc}")
            return self._routes
        self._problem = ""
        if policy.routes != self._routes:
            self._routes = policy.routes
            _log.info("notification_routes_changed", routes=[route.name for route in policy.routes.routes])
        return self._routes
