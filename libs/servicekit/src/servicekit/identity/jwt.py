"""JSON Web Tokens of an OpenID Connect provider."""

import hashlib
import json
import time
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import jwt

from servicekit.identity.canonical import InvalidNameError, canonical, is_system
from servicekit.identity.credentials import Refusal, UnauthenticatedError
from servicekit.identity.identity import Identity
from servicekit.identity.jwks import NO_KEYS, SigningKeys
from servicekit.identity.key_sources import KeySource
from servicekit.identity.roles import RoleMapping, claim_values

# Of verified tokens: a caller sends the same one with each call, and a signature costs more than the rest of its check.
_MAX_REMEMBERED = 4_096

# The first that fits counts: the library's errors are subclasses of each other.
_REFUSALS: Mapping[type[Exception], Refusal] = {
    jwt.ExpiredSignatureError: Refusal.EXPIRED,
    jwt.ImmatureSignatureError: Refusal.NOT_YET_VALID,
    jwt.InvalidIssuerError: Refusal.ISSUER,
    jwt.InvalidAudienceError: Refusal.AUDIENCE,
    jwt.MissingRequiredClaimError: Refusal.CLAIMS,
    jwt.InvalidAlgorithmError: Refusal.ALGORITHM,
    jwt.InvalidSignatureError: Refusal.SIGNATURE,
}


@dataclass(frozen=True, slots=True)
class JwtRules:
    """What a token must say."""

    issuer: str
    # One of them must be among the token's.
    audiences: Collection[str]
    algorithms: frozenset[str]
    clock_skew: timedelta
    # Claims: which holds the name, which the roles.
    name_claim: str
    role_claim: str


@dataclass(frozen=True, slots=True)
class _Verified:
    name: str
    role_values: Collection[str]
    # With the roles by the mapping: when that changes, they are looked up again.
    identity: Identity
    mapping: RoleMapping
    # With the clock skew.
    valid_until: float
    # The keys that it was verified by: when they change, it is verified again.
    keys: SigningKeys


def _identity(name: str, role_values: Collection[str], mapping: RoleMapping) -> Identity:
    return Identity(name, mapping.roles(role_values), "jwt")


class JwtVerifier:
    """Verifies tokens against keys and a role mapping that may change at any time."""

    def __init__(
        self,
        rules: JwtRules,
        keys: KeySource,
        read_mapping: Callable[[], RoleMapping],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._keys = keys
        self._read_mapping = read_mapping
        self._clock = clock
        self._remembered: OrderedDict[bytes, _Verified] = OrderedDict()

    async def verify(self, token: str) -> Identity:
        """Return the identity of a token. Raises UnauthenticatedError."""
        digest = hashlib.sha256(token.encode()).digest()
        verified = self._remembered.get(digest)
        if verified is None or verified.keys is not self._keys.current:
            verified = await self._verified(token)
            self._remember(digest, verified)
        elif self._clock() >= verified.valid_until:
            raise UnauthenticatedError(Refusal.EXPIRED)
        elif verified.mapping is not (mapping := self._read_mapping()):
            identity = _identity(verified.name, verified.role_values, mapping)
            verified = replace(verified, identity=identity, mapping=mapping)
            self._remember(digest, verified)
        else:
            self._remembered.move_to_end(digest)
        return verified.identity

    def _remember(self, digest: bytes, verified: _Verified) -> None:
        self._remembered[digest] = verified
        self._remembered.move_to_end(digest)
        if len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    async def _verified(self, token: str) -> _Verified:
        algorithm, key_id = _algorithm_and_key_id(token)
        # By our list before any key is looked at: neither `none` nor a symmetric one is ever on it.
        if algorithm not in self._rules.algorithms:
            raise UnauthenticatedError(Refusal.ALGORITHM)
        key = await self._keys.find(key_id)
        if key is None:
            unavailable = self._keys.current is NO_KEYS
            raise UnauthenticatedError(Refusal.KEYS_UNAVAILABLE if unavailable else Refusal.UNKNOWN_KEY)
        # The key says what it may verify, the token does not.
        if algorithm not in key.algorithms:
            raise UnauthenticatedError(Refusal.ALGORITHM)
        keys = self._keys.current
        claims = self._claims(token, algorithm, key.key)
        skew = self._rules.clock_skew.total_seconds()
        name, role_values = self._name(claims), claim_values(claims, self._rules.role_claim)
        mapping = self._read_mapping()
        return _Verified(
            name,
            role_values,
            _identity(name, role_values, mapping),
            mapping,
            float(claims["exp"]) + skew,
            keys,
        )

    def _claims(self, token: str, algorithm: str, key: Any) -> Mapping[str, Any]:
        """Return the claims of a token whose signature and standard claims are right."""
        rules = self._rules
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=rules.issuer,
                audience=list(rules.audiences),
                leeway=rules.clock_skew,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as exc:
            refusal = next(
                (refusal for kind, refusal in _REFUSALS.items() if isinstance(exc, kind)), Refusal.MALFORMED
            )
            raise UnauthenticatedError(refusal) from None
        except Exception:
            # Claims of odd types, such as an endless time: the library does not expect all of them.
            raise UnauthenticatedError(Refusal.CLAIMS) from None

    def _name(self, claims: Mapping[str, Any]) -> str:
        name = claims.get(self._rules.name_claim)
        if not isinstance(name, str):
            raise UnauthenticatedError(Refusal.CLAIMS)
        try:
            canonical_name = canonical(name)
        except InvalidNameError:
            raise UnauthenticatedError(Refusal.NAME) from None
        if is_system(canonical_name):
            raise UnauthenticatedError(Refusal.NAME)
        return canonical_name


def _algorithm_and_key_id(token: str) -> tuple[str, str | None]:
    """Return what the header says, unverified: it only chooses the key. Raises UnauthenticatedError.

    The library would decode the whole token for it, which takes as long as to verify it.
    """
    header = token.partition(".")[0]
    try:
        found = json.loads(urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (ValueError, RecursionError):
        raise UnauthenticatedError(Refusal.MALFORMED) from None
    algorithm, key_id = (found.get("alg"), found.get("kid")) if isinstance(found, dict) else (None, None)
    if not isinstance(algorithm, str) or not isinstance(key_id, str | None):
        raise UnauthenticatedError(Refusal.MALFORMED)
    return algorithm, key_id
