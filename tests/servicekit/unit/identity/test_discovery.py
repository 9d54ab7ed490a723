"""The keys of a provider that is known by its issuer alone."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from servicekit.identity.authentication import open_authentication
from servicekit.identity.credentials import Credentials, Refusal, UnauthenticatedError
from servicekit.identity.discovery import DiscoveredKeys
from servicekit.identity.key_sources import FetchFailedError
from servicekit.identity.settings import IdentitySettings
from tests.credentials import AUDIENCE, jwk, jwks, rsa_key, signed
from tests.tcp_server import tcp_server

ISSUER = "https://login.example/realm"
DOCUMENT = f"{ISSUER}/.well-known/openid-configuration"
KEYS = jwks(jwk(rsa_key()))


class Provider:
    """What its URLs hold, how often each was fetched, and the time."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {DOCUMENT: document(), "https://login.example/keys": KEYS}
        self.fetched: Counter[str] = Counter()
        self.now = 0.0

    async def fetch(self, url: str) -> bytes:
        self.fetched[url] += 1
        if url not in self.contents:
            raise FetchFailedError("HTTP status 404")
        return self.contents[url]

    def keys(self, issuer: str = ISSUER) -> DiscoveredKeys:
        return DiscoveredKeys(issuer, self.fetch, refresh=timedelta(minutes=10), clock=lambda: self.now)


def document(**fields: Any) -> bytes:
    return json.dumps({"issuer": ISSUER, "jwks_uri": "https://login.example/keys", **fields}).encode()


@pytest.mark.parametrize("issuer", [ISSUER, f"{ISSUER}/"])
async def test_the_document_of_the_issuer_names_the_keys(issuer: str) -> None:
    provider = Provider()
    provider.contents[DOCUMENT] = document(issuer=issuer)
    assert await provider.keys(issuer)() == KEYS


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"[" * 100_000,
        b"[]",
        document(issuer=f"{ISSUER}/"),
        document(issuer=ISSUER.upper()),
        document(issuer="https://login.example"),
        document(issuer=None),
        document(jwks_uri=None),
        document(jwks_uri=["https://login.example/keys"]),
        document(jwks_uri="http://login.example/keys"),
        document(jwks_uri="https://u:p@login.example/keys"),
        document(jwks_uri="file:///etc/keys"),
        document(jwks_uri="https://login.example\n/keys"),
        document(jwks_uri="/keys"),
    ],
    ids=lambda content: content[:80].decode(),
)
async def test_no_keys_are_taken_by_a_document_that_cannot_be_used(content: bytes) -> None:
    provider = Provider()
    keys = provider.keys()
    assert await keys() == KEYS
    provider.contents[DOCUMENT], provider.now = content, 600.0
    for _ in range(2):
        with pytest.raises(FetchFailedError, match=r"^the discovery document ") as caught:
            await keys()
        assert "example" not in str(caught.value)
    assert provider.fetched["https://login.example/keys"] == 1


async def test_the_document_is_remembered_between_two_refreshes_and_read_again_at_each() -> None:
    provider = Provider()
    keys = provider.keys()
    for provider.now in (0.0, 10.0, 290.0):
        await keys()
    assert provider.fetched == {DOCUMENT: 1, "https://login.example/keys": 3}
    # A refresh comes up to a tenth early.
    provider.now = 540.0
    provider.contents[DOCUMENT] = document(jwks_uri="https://keys.example/new")
    provider.contents["https://keys.example/new"] = b"new"
    assert await keys() == b"new"


async def test_keys_that_have_moved_are_found_by_the_next_attempt() -> None:
    provider = Provider()
    keys = provider.keys()
    await keys()
    del provider.contents["https://login.example/keys"]
    provider.contents[DOCUMENT] = document(jwks_uri="https://login.example/moved")
    provider.contents["https://login.example/moved"] = KEYS
    with pytest.raises(FetchFailedError):
        await keys()
    assert await keys() == KEYS


@asynccontextmanager
async def served(contents: dict[str, bytes]) -> AsyncIterator[str]:
    """A provider over HTTP; the value is its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        content = contents[target]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
        await writer.drain()

    async with tcp_server(serve) as server:
        yield f"http://127.0.0.1:{server.port}"


async def test_an_issuer_alone_authenticates_its_tokens_and_an_impostor_none() -> None:
    contents: dict[str, bytes] = {"/keys": KEYS}
    async with served(contents) as address:
        contents["/.well-known/openid-configuration"] = document(issuer=address, jwks_uri=f"{address}/keys")
        contents["/other/.well-known/openid-configuration"] = document(
            issuer=address, jwks_uri=f"{address}/keys"
        )
        token = Credentials([f"Bearer {signed('alice', iss=address)}"], is_private=True)
        authentication = open_authentication(
            IdentitySettings(oidc_issuer=address, oidc_audience=AUDIENCE), CollectorRegistry()
        )
        assert authentication is not None
        assert (await authentication.authenticator.authenticate(token)).name == "alice"

        impostor = open_authentication(
            IdentitySettings(oidc_issuer=f"{address}/other", oidc_audience=AUDIENCE), CollectorRegistry()
        )
        assert impostor is not None
        with pytest.raises(UnauthenticatedError) as caught:
            await impostor.authenticator.authenticate(token)
        assert caught.value.refusal is Refusal.KEYS_UNAVAILABLE
        assert set(impostor.unusable_sources) == {"jwks"}
