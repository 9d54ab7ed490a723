"""Page tokens: only what this service gave, only for what it was given for."""

import asyncio
import base64
from unittest.mock import create_autospec

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.database.errors import DatabaseUnavailableError
from servicekit.rpc import page_tokens
from servicekit.rpc.page_tokens import InvalidPageTokenError, PageTokens

FILTER = b"filter"


def tokens(key: bytes = b"k" * 32) -> PageTokens:
    made = PageTokens()
    made.key = key
    return made


@pytest.mark.parametrize(
    "position", [[], [1], [1_700_000_000_000_000, "INC-20260507-99ADF2"], ["", "ż\x00"], [-1, 2**63]], ids=str
)
def test_a_position_comes_back(position: list[str | int]) -> None:
    assert tokens().read(FILTER, tokens().make(FILTER, position)) == position


def test_a_token_is_text_that_needs_no_escaping_anywhere() -> None:
    token = tokens().make(FILTER, ["x" * 100, 7])
    assert token.replace("-", "").replace("_", "").isalnum()
    assert token.isascii()


def test_a_token_of_another_filter_is_refused() -> None:
    with pytest.raises(InvalidPageTokenError):
        tokens().read(b"other", tokens().make(FILTER, [1]))


def test_a_token_of_another_key_is_refused() -> None:
    with pytest.raises(InvalidPageTokenError):
        tokens(b"o" * 32).read(FILTER, tokens().make(FILTER, [1]))


def test_every_changed_byte_is_noticed() -> None:
    raw = bytearray(base64.urlsafe_b64decode(tokens().make(FILTER, [1, "ab"]) + "=="))
    for place in range(len(raw)):
        forged = bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(InvalidPageTokenError):
            tokens().read(FILTER, base64.urlsafe_b64encode(forged).decode().rstrip("="))


@pytest.mark.parametrize(
    "token",
    ["a", "ab", "abcde", "====", "żółw", "A" * 4096, "W10", "\x00", "../..", "AAAAAAAAAAAAAAAAAAAAAFtd"],
    ids=lambda token: ascii(token[-12:]) + str(len(token)),
)
def test_what_was_never_a_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidPageTokenError):
        tokens().read(FILTER, token)


def test_a_shortened_token_is_refused() -> None:
    token = tokens().make(FILTER, [1, "ab"])
    for length in range(1, len(token)):
        with pytest.raises(InvalidPageTokenError):
            tokens().read(FILTER, token[:length])


def test_before_the_key_is_known_the_database_is_what_is_missing() -> None:
    with pytest.raises(DatabaseUnavailableError):
        PageTokens().make(FILTER, [1])
    with pytest.raises(DatabaseUnavailableError):
        PageTokens().read(FILTER, tokens().make(FILTER, [1]))


async def test_whether_there_is_a_key_waits_for_the_one_that_is_being_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A service is ready with its first health check, not with the one a second later."""
    key: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def wait_for_key(*_: object) -> bytes:
        return await key

    monkeypatch.setattr(page_tokens, "wait_for_key", wait_for_key)
    made = PageTokens()
    assert not await made.loaded()
    async with asyncio.TaskGroup() as tasks:
        loading = tasks.create_task(made.keep_loaded(create_autospec(AsyncEngine)))
        ready = tasks.create_task(made.loaded())
        await asyncio.sleep(0)
        key.set_result(b"k" * 32)
        assert await ready
        loading.cancel()
