"""The HTTP statuses of failed sends, from the log of Apprise, which says them nowhere else."""

import contextlib
import logging
import re
import threading

_HTTP_STATUS = re.compile(r"error=(\d{3})\b")


class Statuses(logging.Handler):
    """Captures the HTTP status of a failed send from Apprise's log records, for each thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._here = threading.local()

    def clear(self) -> None:
        """Begin a send in this thread."""
        self._here.status = None

    def captured(self) -> int | None:
        """Return the status of this thread's send, or None when none was logged."""
        status: int | None = getattr(self._here, "status", None)
        return status

    def emit(self, record: logging.LogRecord) -> None:
        """Capture the status in `record`, if there is one."""
        with contextlib.suppress(Exception):
            if match := _HTTP_STATUS.search(record.getMessage()):
                self._here.status = int(match[1])


def capture_statuses() -> Statuses:
    """Detach the loggers of Apprise and of its HTTP client from the root logger, at every level: they quote URLs."""
    statuses = Statuses()
    for name in ("apprise", "urllib3"):
        logger = logging.getLogger(name)
        logger.handlers = [statuses]
        logger.propagate = False
        logger.setLevel(logging.WARNING)
    return statuses
