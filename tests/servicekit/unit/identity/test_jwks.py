"""Key sets: which of the keys in a foreign document may verify a signature."""

import json
from typing import Any

import jwt
import pytest

from servicekit.identity.jwks import parse_jwks
from servicekit.identity.watched_file import FileProblemError
from tests.credentials import ec_key, jwk, jwks, rsa_key

GOOD = jwk(rsa_key(), "good")


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"kty": "oct", "k": "c2VjcmV0", "kid": "bad"}, id="symmetric"),
        pytest.param(jwk(rsa_key(), "bad", use="enc"), id="for encryption"),
        pytest.param(jwk(rsa_key(), "bad", key_ops=["encrypt"]), id="for encryption by key_ops"),
        pytest.param(jwk(rsa_key("weak", 1024), "bad"), id="weak"),
        pytest.param(jwk(rsa_key(), "bad", alg="HS256"), id="an algorithm of another kind"),
        pytest.param(jwk(rsa_key(), "bad", alg=["RS256"]), id="an algorithm that is none"),
        pytest.param(
            jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(), as_dict=True)
            | {"kid": "bad", "key_ops": ["verify"]},
            id="a private key",
        ),
        pytest.param(jwk(ec_key(), "bad", crv="P-999"), id="an unknown curve"),
        pytest.param({"kty": "RSA", "kid": "bad", "n": "!", "e": 5}, id="broken"),
        pytest.param({}, id="empty"),
        pytest.param(["bad"], id="no object"),
    ],
)
def test_a_key_of_no_use_does_not_take_the_others_with_it(entry: Any) -> None:
    found = parse_jwks(jwks(entry, GOOD))
    assert set(found.by_id) == {"good"}
    with pytest.raises(FileProblemError, match="no public key"):
        parse_jwks(jwks(entry))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"keys": {}}', b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_key_set_is_refused(content: bytes) -> None:
    with pytest.raises(FileProblemError):
        parse_jwks(content)


def test_a_set_is_bounded() -> None:
    entries = [{"kty": "oct"}] * 100 + [GOOD]
    with pytest.raises(FileProblemError):
        parse_jwks(json.dumps({"keys": entries}).encode())
