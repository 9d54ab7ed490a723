"""Signatures by the Standard Webhooks scheme (HMAC-SHA256, version v1). docs/webhooks.md is the receiver's contract.

Its library, standardwebhooks, is the verifier of the tests. It signs text with one secret; signing bytes with several
takes the few lines below.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_PREFIX = "whsec_"
_MIN_KEY_BYTES, _MAX_KEY_BYTES = 24, 64  # of the scheme
_MIN_TEXT_CHARACTERS = 16
# Base64 holds neither white space nor commas, so these end a secret that has the prefix. Other secrets may contain them
# and end with their line.
_SECRETS = re.compile(rf"[\r\n]+|(?<![^\s,])({_PREFIX}[^\s,]*)")


@dataclass(frozen=True, slots=True)
class Secret:
    """One signing secret: its text as configured, and the key that the text stands for."""

    text: str = field(repr=False)
    key: bytes = field(repr=False)


def parse_secrets(text: str) -> Sequence[Secret]:
    """Return the secrets of a setting, in its order; none when it is blank.

    `whsec_` and base64 stand for the decoded bytes; any other text stands for its own UTF-8 bytes. Secrets are separated by
    newlines, and those with the prefix also by white space or commas. Raises ValueError, which never quotes the text.
    """
    parts = [part for part in _SECRETS.split(text) if part is not None]
    if len(parts) > 1:
        parts = [part.strip(", \t") for part in parts]
    return [Secret(part, _key(part)) for part in parts if part.strip()]


def sign(secrets: Sequence[Secret], *, message_id: str, timestamp: int, body: bytes) -> Mapping[str, str]:
    """Return the headers that sign `body`, with one signature a secret: during a rotation receivers hold either.

    `message_id` is the same at every attempt. Raises ValueError when it has a dot, which would make the signed content
    ambiguous.
    """
    if "." in message_id:
        raise ValueError("a webhook id has no dot")
    content = b"%b.%d.%b" % (message_id.encode("ascii"), timestamp, body)
    digests = [hmac.digest(secret.key, content, hashlib.sha256) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
        # For gateways that drop repetitions without knowing the scheme.
        "Idempotency-Key": message_id,
        "X-Awoooi-Signature": _deprecated_signature(secrets[0], timestamp, body),
    }


def _key(text: str) -> bytes:
    if not text.startswith(_PREFIX):
        if len(text) < _MIN_TEXT_CHARACTERS:
            raise ValueError(f"expected at least {_MIN_TEXT_CHARACTERS} characters")
        return text.encode()
    encoded = text.removeprefix(_PREFIX)
    try:
        # The padding may be left out, as the scheme's library allows.
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        key = b""
    if not _MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES:
        raise ValueError(f"expected {_PREFIX} and the base64 of {_MIN_KEY_BYTES} to {_MAX_KEY_BYTES} bytes")
    return key


def _deprecated_signature(secret: Secret, timestamp: int, body: bytes) -> str:
    # The scheme before Standard Webhooks, for one more release. Its key was always the text as configured.
    digest = hmac.digest(secret.text.encode(), b"%d.%b" % (timestamp, body), hashlib.sha256)
    return f"t={timestamp},v1={digest.hex()}"
