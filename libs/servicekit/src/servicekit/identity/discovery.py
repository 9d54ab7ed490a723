"""Finds the keys of an identity provider by its discovery document: OpenID Connect Discovery 1.0, sections 4 and 7."""

import json
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from servicekit.identity.key_sources import FetchFailedError
from servicekit.identity.trusted_urls import is_trusted_url

_PATH = "/.well-known/openid-configuration"


class DiscoveredKeys:
    """Fetches the key set from where the provider's discovery document says that it is.

    The place is remembered: for unknown keys, which are looked for between two refreshes, and not for longer. A document
    that cannot be used changes nothing: there are no new keys then.
    """

    def __init__(
        self,
        issuer: str,
        fetch: Callable[[str], Awaitable[bytes]],
        *,
        refresh: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` returns what a URL holds or raises FetchFailedError. `refresh` is how often the keys are fetched."""
        self._issuer = issuer
        self._fetch = fetch
        # Each refresh reads the document again, also one that comes a little early.
        self._max_age_seconds = refresh.total_seconds() / 2
        self._clock = clock
        self._url = ""
        self._read_at = 0.0

    async def __call__(self) -> bytes:
        """Return the key set. Raises FetchFailedError."""
        if not self._url or self._clock() - self._read_at >= self._max_age_seconds:
            self._url = self._key_set_url(await self._fetch(self._issuer.removesuffix("/") + _PATH))
            self._read_at = self._clock()
        try:
            return await self._fetch(self._url)
        except FetchFailedError:
            # It may have moved: the next attempt reads the document.
            self._url = ""
            raise

    def _key_set_url(self, document: bytes) -> str:
        try:
            found = json.loads(document)
        except (ValueError, RecursionError):
            raise FetchFailedError("the discovery document is not JSON") from None
        if not isinstance(found, dict):
            raise FetchFailedError("the discovery document is no object")
        # To the letter: a document of another issuer may name anybody's keys.
        if found.get("issuer") != self._issuer:
            raise FetchFailedError("the discovery document is that of another issuer")
        url = found.get("jwks_uri")
        if not isinstance(url, str) or not is_trusted_url(url):
            raise FetchFailedError("the discovery document names no https:// URL of keys")
        return url
