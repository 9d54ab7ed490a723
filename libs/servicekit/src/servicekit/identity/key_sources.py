"""Where the keys of an identity provider come from: a file, or a URL that is fetched again before it is needed."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol

import structlog

from servicekit.identity.jwks import NO_KEYS, SigningKey, SigningKeys, parse_jwks
from servicekit.identity.metrics import SourceMetrics
from servicekit.identity.watched_file import FileProblemError, WatchedFile

_log = structlog.get_logger()

SOURCE = "jwks"
# Between two attempts, for all callers together: callers with invented key ids cannot make us call the provider more often.
_MIN_INTERVAL_SECONDS = 10.0
# Calls that may wait for one attempt: a slow provider must not hold the places of others.
_MAX_WAITING = 100


class KeySource(Protocol):
    """The current keys."""

    @property
    def current(self) -> SigningKeys:
        """The keys as they are known now."""

    async def find(self, key_id: str | None) -> SigningKey | None:
        """Return the key of this id, looking for new keys when it is unknown."""

    async def keep_current(self) -> None:
        """Look for new keys again and again, until cancelled."""


class FileKeys:
    """Keys in a file."""

    def __init__(self, file: WatchedFile[SigningKeys]) -> None:
        self._file = file

    @property
    def current(self) -> SigningKeys:
        """The keys in the file."""
        return self._file.value

    async def find(self, key_id: str | None) -> SigningKey | None:
        """Return the key of this id."""
        return self.current.find(key_id)

    async def keep_current(self) -> None:
        """Read the file again and again, until cancelled."""
        await self._file.keep_current()


class FetchFailedError(Exception):
    """The keys could not be fetched; the message says why in a word, without anything of the URL or the response."""


class UrlKeys:
    """Keys behind a URL. The last good ones stay while it cannot be fetched."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[bytes]],
        *,
        refresh: timedelta,
        metrics: SourceMetrics,
        min_interval_seconds: float = _MIN_INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`refresh` is how often it is fetched while no unknown key is requested. `fetch` raises FetchFailedError."""
        self._fetch = fetch
        self._refresh_seconds = refresh.total_seconds()
        self._metrics = metrics
        self._min_interval_seconds = min_interval_seconds
        self._clock = clock
        self._keys = NO_KEYS
        self._attempted_at = -float("inf")
        self._attempt: asyncio.Task[bool] | None = None
        self._waiting = 0
        self._logged = ""
        metrics.declare(SOURCE)

    @property
    def current(self) -> SigningKeys:
        """The keys of the last fetch that succeeded; none before it."""
        return self._keys

    async def find(self, key_id: str | None) -> SigningKey | None:
        """Return the key of this id. An unknown one may be new: it is looked for, not more often than the minimum interval."""
        key = self._keys.find(key_id)
        if key is None and self._waiting < _MAX_WAITING and self._may_attempt():
            self._waiting += 1
            try:
                await self._attempted()
            finally:
                self._waiting -= 1
            key = self._keys.find(key_id)
        return key

    def _may_attempt(self) -> bool:
        """Tell whether an attempt is under way, or may begin."""
        return self._attempt is not None or self._clock() - self._attempted_at >= self._min_interval_seconds

    async def keep_current(self) -> None:
        """Fetch again and again, until cancelled: soon after a failure, else each time in the refresh interval."""
        while True:
            succeeded = await self._attempted()
            seconds = self._refresh_seconds if succeeded else self._min_interval_seconds
            # Replicas that started together spread over time.
            await asyncio.sleep(seconds * random.uniform(0.9, 1.0))  # noqa: S311 - no secret

    async def _attempted(self) -> bool:
        """Wait for the attempt that is under way, or for a new one. Return whether it succeeded."""
        if self._attempt is None:
            self._attempted_at = self._clock()
            self._attempt = asyncio.create_task(self._try())
            self._attempt.add_done_callback(self._ended)
        # One caller that gives up does not end it for the others.
        return await asyncio.shield(self._attempt)

    def _ended(self, _attempt: "asyncio.Task[bool]") -> None:
        self._attempt = None

    async def _try(self) -> bool:
        try:
            self._keys = parse_jwks(await self._fetch())
        except (FetchFailedError, FileProblemError) as exc:
            self._metrics.failed(SOURCE)
            if str(exc) != self._logged:
                self._logged = str(exc)
                _log.warning("jwks_fetch_failed", problem=str(exc), has_keys=self._keys is not NO_KEYS)
            return False
        self._metrics.succeeded(SOURCE)
        self._logged = ""
        return True
