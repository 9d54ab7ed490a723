"""A token as the file holds it: a hash, and never the token."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from flywheel.errors import FlywheelError

ROLES: Final = ("viewer", "proposer", "approver", "operator", "detector", "intake")
# Tells people and scanners for secrets what it is.
_PREFIX: Final = "fw_"
_RANDOM_BYTES: Final = 32
_ID_BYTES: Final = 4
_MAX_LIFETIME = timedelta(days=366)
_NAME = re.compile(r"[a-z0-9][a-z0-9._@:/+-]{0,127}")
_SYSTEM_NAMES = ("service:", "policy:", "system:", "anonymous")
_LIFETIME = re.compile(r"(\d{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token that was created."""

    id: str
    name: str
    roles: tuple[str, ...]
    sha256: str
    create_time: datetime
    expire_time: datetime
    revoke_time: datetime | None = None

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read a record of the file. Raises KeyError, TypeError, ValueError."""
        revoked = record["revoke_time"]
        return cls(
            id=str(record["id"]),
            name=str(record["name"]),
            roles=tuple(map(str, record["roles"])),
            sha256=str(record["sha256"]),
            create_time=datetime.fromisoformat(record["create_time"]),
            expire_time=datetime.fromisoformat(record["expire_time"]),
            revoke_time=None if revoked is None else datetime.fromisoformat(revoked),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the record as the file holds it."""
        return {
            "id": self.id,
            "name": self.name,
            "roles": list(self.roles),
            "sha256": self.sha256,
            "create_time": self.create_time.isoformat(),
            "expire_time": self.expire_time.isoformat(),
            "revoke_time": None if self.revoke_time is None else self.revoke_time.isoformat(),
        }

    def state(self, now: datetime) -> str:
        """Return whether the token can be used."""
        if self.revoke_time is not None:
            return "revoked"
        return "expired" if now >= self.expire_time else "valid"


def new_token(
    name: str, roles: list[str], lifetime: str, *, now: datetime | None = None
) -> tuple[str, TokenRecord]:
    """Return a new token and its record. Raises FlywheelError for what no token can have."""
    token = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    created = (now or datetime.now(UTC)).replace(microsecond=0)
    record = TokenRecord(
        id=secrets.token_hex(_ID_BYTES),
        name=_checked_name(name),
        roles=_checked_roles(roles),
        sha256=hashlib.sha256(token.encode()).hexdigest(),
        create_time=created,
        expire_time=created + _parse_lifetime(lifetime),
    )
    return token, record


def _checked_name(name: str) -> str:
    # ASCII alone is lowered: the services take no other letter.
    canonical = name.strip().lower() if name.isascii() else ""
    if _NAME.fullmatch(canonical) is None:
        raise FlywheelError(
            "the name must be 1 to 128 letters, digits or . _ @ : / + -, such as alice or ci/deploy"
        )
    if canonical.startswith(_SYSTEM_NAMES):
        raise FlywheelError(
            "names that begin with service:, policy: or system: are the system's own",
            advice="a service proves its name by a certificate, see docs/security.md",
        )
    return canonical


def _checked_roles(roles: list[str]) -> tuple[str, ...]:
    if not roles or not set(ROLES).issuperset(roles):
        raise FlywheelError(f"the roles are {', '.join(ROLES)}", advice="for example --role approver")
    return tuple(role for role in ROLES if role in roles)


def _parse_lifetime(text: str) -> timedelta:
    match = _LIFETIME.fullmatch(text)
    lifetime = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta(0)
    if not timedelta(0) < lifetime <= _MAX_LIFETIME:
        raise FlywheelError("the lifetime must be such as 90d, 12h or 30m, at most 366d")
    return lifetime
