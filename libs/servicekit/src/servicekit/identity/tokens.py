"""Opaque bearer tokens: a file holds a hash of each, with its name, roles and expiry. `flywheel token` writes it.

A token has 256 random bits, so that a plain hash of it reveals nothing and need not be slow.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from servicekit.identity.canonical import InvalidNameError, canonical, is_system
from servicekit.identity.credentials import Refusal, UnauthenticatedError
from servicekit.identity.identity import Identity
from servicekit.identity.roles import ROLES
from servicekit.identity.watched_file import FileProblemError, WatchedFile

PREFIX: Final = "fw_"


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was given out."""

    identity: Identity
    digest: bytes
    expires_at: float
    is_revoked: bool


Tokens = Mapping[bytes, Token]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    name: str
    roles: list[str]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    create_time: AwareDatetime
    expire_time: AwareDatetime
    revoke_time: AwareDatetime | None = None


class _File(BaseModel):
    # What a newer version wrote may restrict a token in a way that is not known here.
    model_config = ConfigDict(extra="forbid")

    version: Literal[1]
    tokens: list[_Record]


def parse_tokens(content: bytes) -> Tokens:
    """Return the tokens in a file by their digests. Raises FileProblemError."""
    try:
        records = _File.model_validate_json(content).tokens
    except ValidationError as exc:
        place = ".".join(str(part) for part in exc.errors(include_url=False, include_input=False)[0]["loc"])
        raise FileProblemError(f"was not written by flywheel token, see {place or 'its beginning'}") from None
    tokens = [_token(record) for record in records]
    return {token.digest: token for token in tokens}


def _token(record: _Record) -> Token:
    try:
        name = canonical(record.name)
    except InvalidNameError as exc:
        raise FileProblemError(f"the name of a token {exc}") from None
    if is_system(name):
        raise FileProblemError(f"no token can have the system's name {name}")
    if not record.roles or not ROLES.issuperset(record.roles):
        raise FileProblemError(f"the roles of a token are {', '.join(sorted(ROLES))}")
    return Token(
        Identity(name, frozenset(record.roles), "token"),
        bytes.fromhex(record.sha256),
        _seconds(record.expire_time),
        record.revoke_time is not None,
    )


def _seconds(when: datetime) -> float:
    return when.timestamp()


class TokenVerifier:
    """Verifies tokens against a file that may change at any time."""

    def __init__(self, file: WatchedFile[Tokens], *, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock

    def verify(self, token: str) -> Identity:
        """Return the identity of a token. Raises UnauthenticatedError."""
        digest = hashlib.sha256(token.encode()).digest()
        # The look-up compares hashes: its time tells about the hash, never about the token.
        found = self._file.value.get(digest)
        if found is None or not hmac.compare_digest(found.digest, digest):
            raise UnauthenticatedError(Refusal.UNKNOWN_TOKEN)
        if found.is_revoked:
            raise UnauthenticatedError(Refusal.REVOKED)
        if self._clock() >= found.expires_at:
            raise UnauthenticatedError(Refusal.EXPIRED)
        return found.identity
