"""Signatures, verified with the Standard Webhooks library as a receiver would."""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from servicekit.webhooks.signature import parse_secrets, sign

KEY, OTHER_KEY = bytes(range(24)), bytes(range(64))
PREFIXED, OTHER_PREFIXED = (f"whsec_{base64.b64encode(key).decode()}" for key in (KEY, OTHER_KEY))
RAW = "correct horse, battery staple"
BODY = '{"title":"disk full on db-1 💥"}'.encode()
MESSAGE_ID = "INC-20260507-99ADF2/webhook/2"


def signed(text: str, *, body: bytes = BODY) -> Mapping[str, str]:
    """The headers of a body that is signed now with the secrets of a setting."""
    return sign(parse_secrets(text), message_id=MESSAGE_ID, timestamp=int(time.time()), body=body)


def verify(secret: str | bytes, headers: Mapping[str, str], body: bytes = BODY) -> None:
    """Verify with the library."""
    Webhook(secret).verify(body, dict(headers), json_parse=False)


def test_the_library_verifies_a_prefixed_secret() -> None:
    verify(PREFIXED, signed(PREFIXED))


def test_the_library_verifies_a_raw_secret_as_its_bytes() -> None:
    verify(RAW.encode(), signed(RAW))


@pytest.mark.parametrize("secret", [PREFIXED, OTHER_PREFIXED, RAW.encode()])
def test_during_a_rotation_the_library_verifies_either_secret(secret: str | bytes) -> None:
    verify(secret, signed(f"{PREFIXED} {OTHER_PREFIXED}\n{RAW}"))


@pytest.mark.parametrize(
    ("secret", "change", "body"),
    [
        pytest.param(OTHER_PREFIXED, {}, BODY, id="another secret"),
        pytest.param(PREFIXED, {}, BODY.replace(b"full", b"fine"), id="another body"),
        pytest.param(PREFIXED, {"webhook-id": "INC-20260507-99ADF2/webhook/1"}, BODY, id="another id"),
    ],
)
def test_the_library_rejects_what_was_not_signed(secret: str, change: dict[str, str], body: bytes) -> None:
    with pytest.raises(WebhookVerificationError, match=r"^No matching signature found$"):
        verify(secret, {**signed(PREFIXED), **change}, body)


def test_the_library_rejects_another_time_than_the_signed_one() -> None:
    # Taken now, not when the tests are collected: the library rejects a time of five minutes ago as too old.
    another = {"webhook-timestamp": str(int(time.time()) - 1)}
    with pytest.raises(WebhookVerificationError, match=r"^No matching signature found$"):
        verify(PREFIXED, {**signed(PREFIXED), **another})


def test_the_signature_is_the_schemes_own_example() -> None:
    [secret] = parse_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = sign(
        [secret],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_id_is_the_idempotency_key() -> None:
    headers = signed(PREFIXED)
    assert headers["webhook-id"] == headers["Idempotency-Key"] == MESSAGE_ID


def test_an_id_with_a_dot_is_refused_as_the_signed_content_would_be_ambiguous() -> None:
    with pytest.raises(ValueError, match="no dot"):
        sign(parse_secrets(PREFIXED), message_id="a.1", timestamp=1, body=BODY)


@pytest.mark.parametrize("text", [RAW, PREFIXED])
def test_the_deprecated_signature_has_the_text_of_the_first_secret_as_its_key(text: str) -> None:
    headers = sign(parse_secrets(f"{text}\n{OTHER_PREFIXED}"), message_id=MESSAGE_ID, timestamp=17, body=BODY)
    digest = hmac.new(text.encode(), b"17." + BODY, hashlib.sha256).hexdigest()
    assert headers["X-Awoooi-Signature"] == f"t=17,v1={digest}"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        pytest.param("", [], id="empty"),
        pytest.param(" \n ", [], id="blank"),
        pytest.param(RAW, [RAW.encode()], id="a raw secret may hold spaces and commas"),
        pytest.param(f" {RAW} ", [f" {RAW} ".encode()], id="and keeps its bytes as they are"),
        pytest.param("größer als nötig 💥", ["größer als nötig 💥".encode()], id="UTF-8"),
        pytest.param(f"{RAW}-whsec_{'A' * 32}", [f"{RAW}-whsec_{'A' * 32}".encode()], id="prefix inside"),
        pytest.param(PREFIXED, [KEY], id="prefixed"),
        pytest.param(OTHER_PREFIXED.rstrip("="), [OTHER_KEY], id="prefixed, without padding"),
        pytest.param(f"{PREFIXED} {OTHER_PREFIXED}", [KEY, OTHER_KEY], id="separated by a space"),
        pytest.param(f"{PREFIXED},{OTHER_PREFIXED}", [KEY, OTHER_KEY], id="separated by a comma"),
        pytest.param(f" {PREFIXED} ,\t{OTHER_PREFIXED}, ", [KEY, OTHER_KEY], id="separated by both"),
        pytest.param(f"{PREFIXED}\n{OTHER_PREFIXED}\n", [KEY, OTHER_KEY], id="one a line"),
        pytest.param(f"{RAW}\r\nanother {RAW}\r\n", [RAW.encode(), f"another {RAW}".encode()], id="raw ones"),
        pytest.param(f"{PREFIXED} {RAW}", [KEY, RAW.encode()], id="from raw to prefixed"),
        pytest.param(f"{RAW}, {PREFIXED}", [RAW.encode(), KEY], id="from prefixed to raw"),
    ],
)
def test_a_setting_holds_one_secret_or_several(text: str, keys: Sequence[bytes]) -> None:
    assert [secret.key for secret in parse_secrets(text)] == keys


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("x" * 15, "expected at least 16 characters", id="a short one"),
        pytest.param(f"{RAW}\n{'x' * 15}", "expected at least 16 characters", id="a short one among others"),
        *(
            pytest.param(f"whsec_{encoded}", "expected whsec_ and the base64 of 24 to 64 bytes", id=name)
            for name, encoded in {
                "nothing encoded": "",
                "too few bytes": base64.b64encode(bytes(23)).decode(),
                "too many bytes": base64.b64encode(bytes(65)).decode(),
                "another alphabet": "-_" * 20,
                "not ASCII": "ä" * 40,
            }.items()
        ),
    ],
)
def test_an_unusable_secret_is_refused_and_not_quoted(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$") as caught:
        parse_secrets(text)
    assert caught.value.__cause__ is None


def test_a_secret_does_not_show_itself() -> None:
    assert repr(parse_secrets(f"{PREFIXED}\n{RAW}")) == "[Secret(), Secret()]"
