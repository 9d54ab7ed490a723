"""Files that are read again while the process runs.

Those of tokens and roles fail closed: while one cannot be used, nothing in it holds. What it held before does not stay in
force, for it may be the very token or role that an operator is removing.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from servicekit.identity.metrics import SourceMetrics
from servicekit.process.files import why_unreadable

_log = structlog.get_logger()

T = TypeVar("T")

# A revoked token stops within this time.
EVERY = timedelta(seconds=1)
# Of attempts that fail before the file counts as unusable: an editor that is writing it leaves it empty for a moment.
_TOLERATED_FAILURES = 1
_MAX_BYTES = 4 << 20


class FileProblemError(Exception):
    """A file cannot be used; the message says why, without its path and its secrets."""


class WatchedFile(Generic[T]):
    """The value in a file, as it is now."""

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], T],
        *,
        unusable: T | None,
        source: str,
        metrics: SourceMetrics,
    ) -> None:
        """`unusable` is the value while the file cannot be used; None: the last good one stays.

        `source` names it in the log and in the series.
        """
        self._path = path
        self._parse = parse
        self._unusable = unusable
        self._source = source
        self._metrics = metrics
        self._content: bytes | None = None
        self._logged = ""
        self._failures = 0
        self._value: T | None = unusable
        metrics.declare(source)

    @property
    def value(self) -> T:
        """The value. Only after `load`."""
        if self._value is None:
            raise RuntimeError("the file was not loaded")
        return self._value

    def load(self) -> None:
        """Read the file for the first time. Raises FileProblemError."""
        self._take(self._read())

    async def keep_current(self) -> None:
        """Read the file again and again, until cancelled."""
        while True:
            await asyncio.sleep(EVERY.total_seconds())
            await self.check()

    async def check(self) -> None:
        """Read the file again, and take what changed."""
        try:
            # Compared by content and not by modification time: two changes may have the same one.
            content = await asyncio.to_thread(self._read)
            if content != self._content:
                self._take(content)
                _log.info("identity_file_loaded", source=self._source, path=str(self._path))
        except FileProblemError as exc:
            self._refuse(str(exc))

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except OSError as exc:
            raise FileProblemError(why_unreadable(exc)) from None
        if len(content) > _MAX_BYTES:
            raise FileProblemError(f"is larger than {_MAX_BYTES >> 20} MiB")
        return content

    def _take(self, content: bytes) -> None:
        self._value = self._parse(content)
        self._content = content
        self._failures, self._logged = 0, ""
        self._metrics.succeeded(self._source)

    def _refuse(self, problem: str) -> None:
        # The same content again, once it can be read again, is a change.
        self._content = None
        self._failures += 1
        if self._failures <= _TOLERATED_FAILURES:
            return
        if self._unusable is not None:
            self._value = self._unusable
        self._metrics.failed(self._source)
        if problem != self._logged:
            self._logged = problem
            _log.error("identity_file_unusable", source=self._source, path=str(self._path), problem=problem)
