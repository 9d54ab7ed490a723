"""JSON Web Tokens: which are taken, and which forgeries are not."""

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from servicekit.identity.credentials import Refusal, UnauthenticatedError
from servicekit.identity.identity import Identity
from servicekit.identity.jwks import NO_KEYS, SigningKey, SigningKeys, parse_jwks
from servicekit.identity.jwt import JwtRules, JwtVerifier
from servicekit.identity.roles import ROLES_BY_NAME, RoleMapping
from tests.credentials import (
    AUDIENCE,
    ISSUER,
    confused,
    ec_key,
    ed_key,
    encoded,
    jwk,
    jwks,
    rsa_key,
    signed,
    unsigned,
)

SKEW = timedelta(seconds=30)
RULES = JwtRules(
    issuer=ISSUER,
    audiences=(AUDIENCE, "another"),
    algorithms=frozenset({"RS256", "PS256", "ES256", "EdDSA"}),
    clock_skew=SKEW,
    name_claim="sub",
    role_claim="roles",
)
KEYS = parse_jwks(
    jwks(jwk(rsa_key()), jwk(ec_key(), "curve"), jwk(ed_key(), "edwards"), jwk(rsa_key(), "ps", alg="PS256"))
)


class Keys:
    """Keys that a test changes."""

    def __init__(self, keys: SigningKeys = KEYS) -> None:
        self.current = keys
        self.looked_for: list[str | None] = []

    async def find(self, key_id: str | None) -> SigningKey | None:
        self.looked_for.append(key_id)
        return self.current.find(key_id)

    async def keep_current(self) -> None:
        """These change by the test alone."""


def verifier(
    keys: Keys | None = None,
    *,
    mapping: Callable[[], RoleMapping] = lambda: ROLES_BY_NAME,
    clock: Callable[[], float] = time.time,
    rules: JwtRules = RULES,
) -> JwtVerifier:
    return JwtVerifier(rules, keys or Keys(), mapping, clock=clock)


async def refusal_of(token: str, by: JwtVerifier | None = None) -> Refusal:
    with pytest.raises(UnauthenticatedError) as caught:
        await (by or verifier()).verify(token)
    return caught.value.refusal


@pytest.mark.parametrize(
    ("key", "key_id", "algorithm"),
    [
        (rsa_key, "first", "RS256"),
        (rsa_key, "first", "PS256"),
        (rsa_key, "ps", "PS256"),
        (ec_key, "curve", "ES256"),
        (ed_key, "edwards", "EdDSA"),
    ],
)
async def test_a_valid_token_is_its_name_and_roles(
    key: Callable[[], Any], key_id: str, algorithm: str
) -> None:
    token = signed("Alice", ["approver", "unknown"], key=key(), key_id=key_id, algorithm=algorithm)
    assert await verifier().verify(token) == Identity("alice", frozenset({"approver"}), "jwt")


NOW = time.time()


# What a caller could send, and why it is refused.
FORGED: Mapping[str, tuple[Callable[[], str], Refusal]] = {
    "alg none": (unsigned, Refusal.ALGORITHM),
    "alg None": (lambda: unsigned(alg="None"), Refusal.ALGORITHM),
    "RS256 without a signature": (lambda: unsigned(alg="RS256"), Refusal.SIGNATURE),
    "key confusion": (confused, Refusal.ALGORITHM),
    "HS256": (lambda: signed(key="s" * 32, algorithm="HS256"), Refusal.ALGORITHM),
    "RS384": (lambda: signed(algorithm="RS384"), Refusal.ALGORITHM),
    "PS256 key": (lambda: signed(key_id="ps"), Refusal.ALGORITHM),
    "RSA key id": (lambda: signed(key=ec_key(), algorithm="ES256"), Refusal.ALGORITHM),
    "other key": (lambda: signed(key=rsa_key("other")), Refusal.SIGNATURE),
    "other signature": (lambda: signed()[:-8] + "AAAAAAAA", Refusal.SIGNATURE),
    "unknown key id": (lambda: signed(key_id="unknown"), Refusal.UNKNOWN_KEY),
    "no key id": (lambda: signed(key_id=None), Refusal.UNKNOWN_KEY),
    "expired": (lambda: signed(exp=NOW - 31), Refusal.EXPIRED),
    "no exp": (lambda: signed(exp=None), Refusal.CLAIMS),
    "exp text": (lambda: signed(exp="tomorrow"), Refusal.MALFORMED),
    "exp infinite": (lambda: signed(exp=float("inf")), Refusal.MALFORMED),
    "nbf": (lambda: signed(nbf=time.time() + 120), Refusal.NOT_YET_VALID),
    "iat": (lambda: signed(iat=time.time() + 120), Refusal.NOT_YET_VALID),
    "issuer": (lambda: signed(iss="https://other.example"), Refusal.ISSUER),
    "issuer slash": (lambda: signed(iss=f"{ISSUER}/"), Refusal.ISSUER),
    "no issuer": (lambda: signed(iss=None), Refusal.CLAIMS),
    "audience": (lambda: signed(aud="another-service"), Refusal.AUDIENCE),
    "empty audience": (lambda: signed(aud=[]), Refusal.CLAIMS),
    "no audience": (lambda: signed(aud=None), Refusal.CLAIMS),
    "no name": (lambda: signed(sub=None), Refusal.CLAIMS),
    "service": (lambda: signed("service:approval"), Refusal.NAME),
    "policy": (lambda: signed("Policy:restarts"), Refusal.NAME),
    "anonymous": (lambda: signed("anonymous"), Refusal.NAME),
    "look-alike": (lambda: signed("\u0430lice"), Refusal.NAME),
    "crit": (lambda: signed(header={"crit": ["b64"], "b64": True}), Refusal.MALFORMED),
    "empty": (lambda: "", Refusal.MALFORMED),
    "two parts": (lambda: "a.b", Refusal.MALFORMED),
    "three parts": (lambda: "a.b.c", Refusal.MALFORMED),
    "header no object": (lambda: encoded(b"[1]") + ".a.b", Refusal.MALFORMED),
    "header nested": (lambda: encoded(b"[" * 100_000) + ".a.b", Refusal.MALFORMED),
    "header alone": (lambda: signed().partition(".")[0], Refusal.MALFORMED),
    "alg no text": (lambda: encoded(b'{"alg": ["RS256"]}') + ".a.b", Refusal.MALFORMED),
    "kid no text": (lambda: encoded(b'{"alg": "RS256", "kid": 1}') + ".a.b", Refusal.MALFORMED),
    "dots": (lambda: "." * 4000, Refusal.MALFORMED),
}


@pytest.mark.parametrize(("token", "refusal"), FORGED.values(), ids=FORGED)
async def test_a_forged_or_foreign_token_is_refused(token: Callable[[], str], refusal: Refusal) -> None:
    assert await refusal_of(token()) is refusal


@pytest.mark.parametrize("fields", [{"aud": ["x", "another"]}, {"header": {"typ": "at+jwt"}}])
async def test_one_audience_is_enough_and_access_tokens_are_taken(fields: dict[str, Any]) -> None:
    assert (await verifier().verify(signed(**fields))).name == "alice"


@pytest.mark.parametrize(("claim", "seconds"), [("exp", -20), ("nbf", 20)])
async def test_clocks_may_differ_a_little(claim: str, seconds: float) -> None:
    fields: dict[str, Any] = {claim: time.time() + seconds}
    assert (await verifier().verify(signed(**fields))).name == "alice"


async def test_a_remembered_token_is_not_verified_again_but_expires_all_the_same() -> None:
    keys, now = Keys(), [time.time()]
    found = verifier(keys, clock=lambda: now[0])
    token = signed(exp=now[0] + 60)
    await found.verify(token)
    await found.verify(token)
    assert len(keys.looked_for) == 1
    now[0] += 60 + SKEW.total_seconds()
    assert await refusal_of(token, found) is Refusal.EXPIRED


async def test_a_token_ends_with_the_key_that_signed_it() -> None:
    keys = Keys()
    found = verifier(keys)
    token, next_token = signed(), signed(key=rsa_key("other"), key_id="second")
    await found.verify(token)
    assert await refusal_of(next_token, found) is Refusal.UNKNOWN_KEY
    keys.current = parse_jwks(jwks(jwk(rsa_key()), jwk(rsa_key("other"), "second")))
    assert (await found.verify(token)).name == (await found.verify(next_token)).name == "alice"
    keys.current = parse_jwks(jwks(jwk(rsa_key("other"), "second")))
    assert await refusal_of(token, found) is Refusal.UNKNOWN_KEY
    assert (await found.verify(next_token)).name == "alice"


async def test_a_key_of_the_same_id_does_not_take_the_tokens_of_the_one_before() -> None:
    keys = Keys()
    found = verifier(keys)
    token = signed()
    await found.verify(token)
    keys.current = parse_jwks(jwks(jwk(rsa_key("other"))))
    assert await refusal_of(token, found) is Refusal.SIGNATURE


async def test_a_changed_role_mapping_counts_for_a_remembered_token_too() -> None:
    mapping = [RoleMapping({"sre": frozenset({"approver"})})]
    found = verifier(mapping=lambda: mapping[0])
    token = signed("alice", ["sre"])
    assert (await found.verify(token)).roles == {"approver"}
    mapping[0] = RoleMapping({})
    assert (await found.verify(token)).roles == frozenset()


async def test_before_the_keys_were_fetched_nothing_can_be_said_about_a_token() -> None:
    assert await refusal_of(signed(), verifier(Keys(NO_KEYS))) is Refusal.KEYS_UNAVAILABLE


async def test_a_token_without_a_key_id_is_verified_by_the_only_key() -> None:
    for entry in (jwk(rsa_key(), None), jwk(rsa_key())):
        found = verifier(Keys(parse_jwks(jwks(entry))))
        assert (await found.verify(signed(key_id=None))).name == "alice"
