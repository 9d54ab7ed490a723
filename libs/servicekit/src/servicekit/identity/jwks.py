"""The public keys of an identity provider: a JSON Web Key Set (RFC 7517)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from servicekit.identity.algorithms import OF_CURVE, OF_RSA
from servicekit.identity.watched_file import FileProblemError

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_RSA_BITS = range(2048, 16_385)
_MAX_KEYS = 100


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and the algorithms that it may verify."""

    key: PublicKey
    algorithms: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class SigningKeys:
    """The keys of a provider, by their ids."""

    by_id: Mapping[str, SigningKey]
    # Those without an id.
    nameless: tuple[SigningKey, ...] = ()

    def find(self, key_id: str | None) -> SigningKey | None:
        """Return the key of this id; for a token that names none, the only key that there is."""
        if key_id is not None:
            return self.by_id.get(key_id)
        keys = (*self.by_id.values(), *self.nameless)
        return keys[0] if len(keys) == 1 else None


NO_KEYS: Final = SigningKeys({})


def parse_jwks(content: bytes) -> SigningKeys:
    """Return the keys that can verify signatures; others, such as those for encryption, are left out.

    Raises FileProblemError when there is none.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise FileProblemError("is not JSON") from None
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise FileProblemError("is no JSON Web Key Set: an object with a list of keys")
    by_id: dict[str, SigningKey] = {}
    nameless: list[SigningKey] = []
    for entry in entries[:_MAX_KEYS]:
        key = _signing_key(entry)
        if key is None:
            continue
        key_id = entry.get("kid")
        if isinstance(key_id, str):
            by_id[key_id] = key
        else:
            nameless.append(key)
    if not by_id and not nameless:
        raise FileProblemError("holds no public key that can verify a signature")
    return SigningKeys(by_id, tuple(nameless))


def _signing_key(entry: Any) -> SigningKey | None:
    """Return the key in an entry; None for one of another kind or use, a symmetric or a weak one."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        key: Any = jwt.PyJWK({name: value for name, value in entry.items() if name != "alg"}).key
    except Exception:
        # The library raises what it meets in a foreign document; one broken key must not take the others with it.
        return None
    algorithms = _algorithms(key)
    if (named := entry.get("alg")) is not None:
        algorithms &= {named} if isinstance(named, str) else set()
    return SigningKey(key, algorithms) if algorithms else None


def _algorithms(key: Any) -> frozenset[str]:
    """Return what a public key can verify; nothing for a private one, which does not belong here."""
    match key:
        case RSAPublicKey() if key.key_size in _RSA_BITS:
            return frozenset(OF_RSA)
        case EllipticCurvePublicKey() if key.curve.name in OF_CURVE:
            return frozenset({OF_CURVE[key.curve.name]})
        case Ed25519PublicKey():
            return frozenset({"EdDSA"})
        case _:
            return frozenset()
