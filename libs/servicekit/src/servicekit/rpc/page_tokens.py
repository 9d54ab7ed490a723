"""Opaque page tokens: where a list goes on, bound to the filter it was made for and signed."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence

from servicekit.database.engine import DatabaseUnavailableError

_SIGNATURE_BYTES = 16


class InvalidPageTokenError(Exception):
    """The page token was not made by this service for this filter."""


class PageTokens:
    """Makes and reads tokens with one key, the same in all replicas.

    The key is in the database, which may not answer yet when the process starts: until `key` is set, making and
    reading raise DatabaseUnavailableError.
    """

    key: bytes | None = None

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
