"""Opaque tokens: a position, HMAC-signed and bound to the filter that it was made for."""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.database.errors import DatabaseUnavailableError
from servicekit.database.keys import wait_for_key

_SIGNATURE_BYTES = 16
# Less than a health check may take.
_LOADING_SECONDS = 0.5


class InvalidPageTokenError(Exception):
    """The page token was not made by this service for this filter."""


class PageTokens:
    """Makes and reads tokens with one key, the same in all replicas.

    The key is in the database, which may not be reached yet when the process starts: until it is loaded, making and
    reading raise DatabaseUnavailableError.
    """

    key: bytes | None = None

    def __init__(self) -> None:
        self._loaded = asyncio.Event()

    async def keep_loaded(self, engine: AsyncEngine) -> None:
        """Load the key as soon as the database is reached and migrated; then wait until cancelled."""
        self.key = await wait_for_key(engine, "page_tokens")
        self._loaded.set()
        await asyncio.Event().wait()

    async def loaded(self) -> bool:
        """Return whether there is a key, after a short wait for one that is being loaded.

        A service that starts is then ready with its first health check, not with the second.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOADING_SECONDS):
                await self._loaded.wait()
        return self.key is not None

    def make(self, filter_bytes: bytes, position: Sequence[str | int]) -> str:
        """Return the token for the page after `position`, the last row's order values."""
        payload = json.dumps(list(position), separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._sign(filter_bytes, payload) + payload).decode().rstrip("=")

    def read(self, filter_bytes: bytes, token: str) -> Sequence[str | int]:
        """Return the position in `token`.

        Raises InvalidPageTokenError for a token that is malformed, forged or of another filter.
        """
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError) as exc:
            raise InvalidPageTokenError from exc
        signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(filter_bytes, payload)):
            raise InvalidPageTokenError
        position: Sequence[str | int] = json.loads(payload)
        return position

    def _sign(self, filter_bytes: bytes, payload: bytes) -> bytes:
        if self.key is None:
            raise DatabaseUnavailableError
        message = hashlib.sha256(filter_bytes).digest() + payload
        return hmac.new(self.key, message, hashlib.sha256).digest()[:_SIGNATURE_BYTES]
