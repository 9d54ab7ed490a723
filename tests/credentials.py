"""Credentials of callers: the tokens of a file, and those of an identity provider with its keys."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUER = "https://login.example"
AUDIENCE = "flywheel"
# Beyond every clock of a test.
_LATER = "2200-01-01T00:00:00Z"


def bearer(token: str, *, scheme: str = "Bearer") -> tuple[tuple[str, str], ...]:
    """The metadata of a call with a bearer token."""
    return (("authorization", f"{scheme} {token}"),)


class TokenFile:
    """A file as `flywheel token` writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: list[dict[str, Any]] = []
        self._write()

    def add(self, name: str, *roles: str, expire_time: str = _LATER, **fields: Any) -> str:
        """Add a token, and return it."""
        token = f"fw_{secrets.token_urlsafe(32)}"
        self._records.append(
            {
                "id": secrets.token_hex(4),
                "name": name,
                "roles": list(roles),
                "sha256": hashlib.sha256(token.encode()).hexdigest(),
                "create_time": "2026-01-01T00:00:00Z",
                "expire_time": expire_time,
                "revoke_time": None,
                **fields,
            }
        )
        self._write()
        return token

    def revoke(self, name: str) -> None:
        """Revoke the tokens of a name."""
        for record in self._records:
            if record["name"] == name:
                record["revoke_time"] = "2026-01-02T00:00:00Z"
        self._write()

    def _write(self) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"version": 1, "tokens": self._records}))
        new.replace(self.path)


@cache
def rsa_key(_name: str = "first", bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key, the same for a name in a whole run: they take long to make."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    """A key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    """An Ed25519 key."""
    return ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, key_id: str | None = "first", **fields: Any) -> dict[str, Any]:
    """The public half of a key as a JSON Web Key."""
    algorithm: Any = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
    }[
        next(
            kind
            for kind in (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)
            if isinstance(key, kind)
        )
    ]
    entry: dict[str, Any] = algorithm.to_jwk(key.public_key(), as_dict=True)
    entry.pop("key_ops", None)
    return entry | ({} if key_id is None else {"kid": key_id}) | fields


def jwks(*entries: Mapping[str, Any]) -> bytes:
    """A JSON Web Key Set."""
    return json.dumps({"keys": list(entries)}).encode()


def claims(name: str = "alice", roles: Sequence[str] = ("viewer",), **fields: Any) -> dict[str, Any]:
    """The claims of a valid token; a field that is None is left out."""
    now = time.time()
    valid = {"iss": ISSUER, "aud": AUDIENCE, "sub": name, "roles": list(roles), "iat": now, "exp": now + 3600}
    return {key: value for key, value in (valid | fields).items() if value is not None}


def signed(
    name: str = "alice",
    roles: Sequence[str] = ("viewer",),
    *,
    key: Any = None,
    key_id: str | None = "first",
    algorithm: str = "RS256",
    header: Mapping[str, Any] | None = None,
    **fields: Any,
) -> str:
    """A token of the provider."""
    headers = ({} if key_id is None else {"kid": key_id}) | dict(header or {})
    return jwt.encode(claims(name, roles, **fields), key or rsa_key(), algorithm=algorithm, headers=headers)


def unsigned(name: str = "mallory", roles: Sequence[str] = ("operator",), *, alg: str = "none") -> str:
    """A token without a signature."""
    return f"{_part({'alg': alg, 'typ': 'JWT', 'kid': 'first'})}.{_part(claims(name, roles))}."


def confused(name: str = "mallory", roles: Sequence[str] = ("operator",)) -> str:
    """A token whose HMAC was made with the public key, as any caller can."""
    pem = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed_part = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'first'})}.{_part(claims(name, roles))}"
    mac = hmac.new(pem, signed_part.encode(), hashlib.sha256).digest()
    return f"{signed_part}.{encoded(mac)}"


def _part(content: Mapping[str, Any]) -> str:
    return encoded(json.dumps(content).encode())


def encoded(data: bytes) -> str:
    """Bytes as they are in a token."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
