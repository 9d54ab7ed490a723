"""The token file: what it may hold, and which tokens are taken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from servicekit.identity.credentials import Refusal, UnauthenticatedError
from servicekit.identity.identity import Identity
from servicekit.identity.metrics import SourceMetrics
from servicekit.identity.tokens import Tokens, TokenVerifier, parse_tokens
from servicekit.identity.watched_file import FileProblemError, WatchedFile
from tests.credentials import TokenFile

NOW = 1_800_000_000.0


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    """A file without tokens."""
    return TokenFile(tmp_path / "tokens.json")


def watched(path: Path) -> WatchedFile[Tokens]:
    """The tokens in the file, loaded."""
    metrics = SourceMetrics(CollectorRegistry())
    file = WatchedFile[Tokens](path, parse_tokens, unusable={}, source="tokens", metrics=metrics)
    file.load()
    return file


def refusal_of(verify: Callable[[], object]) -> Refusal:
    with pytest.raises(UnauthenticatedError) as caught:
        verify()
    return caught.value.refusal


def test_a_token_is_its_name_and_roles(tokens: TokenFile) -> None:
    token = tokens.add("alice", "approver", "viewer")
    verifier = TokenVerifier(watched(tokens.path), clock=lambda: NOW)
    assert verifier.verify(token) == Identity("alice", frozenset({"approver", "viewer"}), "token")


def test_the_file_does_not_hold_the_token(tokens: TokenFile) -> None:
    token = tokens.add("alice", "viewer")
    assert token not in tokens.path.read_text()


def test_a_name_is_canonical_however_the_file_writes_it(tokens: TokenFile) -> None:
    token = tokens.add(" Alice", "viewer")
    assert TokenVerifier(watched(tokens.path), clock=lambda: NOW).verify(token).name == "alice"


def test_unknown_expired_and_revoked_tokens_are_refused(tokens: TokenFile) -> None:
    expired = tokens.add("early", "viewer", expire_time="2027-01-15T07:59:59Z")
    last = tokens.add("late", "viewer", expire_time="2027-01-15T08:00:01Z")
    revoked = tokens.add("gone", "viewer")
    tokens.revoke("gone")
    verifier = TokenVerifier(watched(tokens.path), clock=lambda: NOW)
    assert verifier.verify(last).name == "late"
    assert refusal_of(lambda: verifier.verify(expired)) is Refusal.EXPIRED
    assert refusal_of(lambda: verifier.verify(revoked)) is Refusal.REVOKED
    assert refusal_of(lambda: verifier.verify(f"{last}x")) is Refusal.UNKNOWN_TOKEN
    assert refusal_of(lambda: verifier.verify("fw_")) is Refusal.UNKNOWN_TOKEN


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("name", "service:approval", "system's name"),
        ("name", "Policy:restarts", "system's name"),
        ("name", "anonymous", "system's name"),
        ("name", "\u0430lice", "letters, digits"),
        ("roles", ["admin"], "roles of a token are"),
        ("roles", ["service:approval"], "roles of a token are"),
        ("roles", [], "roles of a token are"),
        ("sha256", "abc", "tokens.0.sha256"),
        ("expire_time", "2027-01-01T00:00:00", "tokens.0.expire_time"),
        ("expire_time", None, "tokens.0.expire_time"),
        ("only_on_mondays", True, "tokens.0.only_on_mondays"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(
    tokens: TokenFile, field: str, value: Any, problem: str
) -> None:
    tokens.add("alice", "viewer")
    content = json.loads(tokens.path.read_text())
    content["tokens"][0][field] = value
    with pytest.raises(FileProblemError, match=problem):
        parse_tokens(json.dumps(content).encode())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 2, "tokens": []}', b"\xff"])
def test_another_file_is_no_token_file(content: bytes) -> None:
    with pytest.raises(FileProblemError, match="was not written by flywheel token"):
        parse_tokens(content)


async def test_a_revoked_token_is_refused_at_the_next_reading(tokens: TokenFile) -> None:
    token = tokens.add("alice", "viewer")
    file = watched(tokens.path)
    verifier = TokenVerifier(file, clock=lambda: NOW)
    assert verifier.verify(token).name == "alice"
    tokens.revoke("alice")
    await file.check()
    assert refusal_of(lambda: verifier.verify(token)) is Refusal.REVOKED


async def test_a_file_that_cannot_be_used_holds_nothing_until_it_can(tokens: TokenFile) -> None:
    token = tokens.add("alice", "viewer")
    file = watched(tokens.path)
    verifier = TokenVerifier(file, clock=lambda: NOW)
    good = tokens.path.read_bytes()
    tokens.path.write_bytes(b"")
    # An editor that writes the file leaves it empty for a moment.
    await file.check()
    assert verifier.verify(token).name == "alice"
    await file.check()
    assert refusal_of(lambda: verifier.verify(token)) is Refusal.UNKNOWN_TOKEN
    tokens.path.write_bytes(good)
    await file.check()
    assert verifier.verify(token).name == "alice"
    tokens.path.unlink()
    await file.check()
    await file.check()
    assert refusal_of(lambda: verifier.verify(token)) is Refusal.UNKNOWN_TOKEN
