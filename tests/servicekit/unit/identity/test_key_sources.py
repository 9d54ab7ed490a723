"""Keys behind a URL: when they are fetched, and that the last good ones stay."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from servicekit.identity.jwks import NO_KEYS
from servicekit.identity.jwks_fetch import fetch_bounded
from servicekit.identity.key_sources import FetchFailedError, UrlKeys
from servicekit.identity.metrics import SourceMetrics
from tests.credentials import jwk, jwks, rsa_key
from tests.tcp_server import TcpServer

FIRST, SECOND = jwks(jwk(rsa_key(), "first")), jwks(jwk(rsa_key(), "first"), jwk(rsa_key("other"), "second"))


class Provider:
    """What a URL holds, and how often it was fetched."""

    def __init__(self) -> None:
        self.content: bytes | Exception = FIRST
        self.fetched = 0
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> bytes:
        self.fetched += 1
        self.began.set()
        await self.may_end.wait()
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


class Case:
    """Keys of a provider, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.provider = Provider()
        self.registry = CollectorRegistry()
        self.keys = UrlKeys(
            self.provider,
            refresh=timedelta(minutes=10),
            metrics=SourceMetrics(self.registry),
            clock=lambda: self.now,
        )

    def sample(self, name: str) -> float | None:
        return self.registry.get_sample_value(name, {"source": "jwks"})


async def test_an_unknown_key_is_looked_for_at_once_but_not_again_and_again() -> None:
    case = Case()
    assert await case.keys.find("first")
    for number in range(20):
        assert await case.keys.find(f"invented-{number}") is None
    assert case.provider.fetched == 1
    case.provider.content = SECOND
    assert await case.keys.find("second") is None
    case.now = 10.0
    assert await case.keys.find("second")
    assert case.provider.fetched == 2


async def test_callers_at_the_same_time_share_one_fetch_and_one_that_gives_up_does_not_end_it() -> None:
    case = Case()
    case.provider.may_end.clear()
    waiting = [asyncio.create_task(case.keys.find("first")) for _ in range(10)]
    await case.provider.began.wait()
    waiting[0].cancel()
    case.provider.may_end.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(found[1:])
    assert case.provider.fetched == 1


async def test_a_slow_provider_does_not_make_every_call_wait() -> None:
    case = Case()
    case.provider.may_end.clear()
    waiting = [asyncio.create_task(case.keys.find("first")) for _ in range(1_000)]
    await case.provider.began.wait()
    # Those beyond the limit have their answer while the fetch goes on.
    done, pending = await asyncio.wait(waiting, timeout=0)
    assert len(pending) == 100
    assert {task.result() for task in done} == {None}
    case.provider.may_end.set()
    assert all(await asyncio.gather(*pending))


@pytest.mark.parametrize("failure", [FetchFailedError("no response in time"), b"<html>", jwks()], ids=str)
async def test_the_last_good_keys_stay_and_failures_are_counted_and_logged_once(failure: Any) -> None:
    case = Case()
    assert await case.keys.find("first")
    case.provider.content = failure
    with structlog.testing.capture_logs() as log:
        for time in (10.0, 20.0, 30.0):
            case.now = time
            assert await case.keys.find("second") is None
    assert await case.keys.find("first")
    assert [line["event"] for line in log] == ["jwks_fetch_failed"]
    assert case.sample("identity_source_failures_total") == 3
    assert case.sample("identity_source_usable") == 0
    case.provider.content, case.now = SECOND, 40.0
    assert await case.keys.find("second")
    assert case.sample("identity_source_usable") == 1


async def test_before_the_first_fetch_there_are_no_keys() -> None:
    case = Case()
    case.provider.content = FetchFailedError("no response in time")
    assert await case.keys.find("first") is None
    assert case.keys.current is NO_KEYS


async def test_they_are_fetched_before_the_first_use() -> None:
    case = Case()
    keeping = asyncio.create_task(case.keys.keep_current())
    await case.provider.began.wait()
    # The fetch that has begun is the one that this waits for.
    assert await case.keys.find("first")
    assert case.provider.fetched == 1
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (OK % len(FIRST) + FIRST, None),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            "HTTP status 302",
        ),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\nsecret", "HTTP status 500"),
        (OK % (300 << 10) + b"x" * (300 << 10), "more than 256 KiB"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "RemoteProtocolError"),
        (b"junk\r\n\r\n", "RemoteProtocolError"),
    ],
    ids=["good", "redirect", "error", "too large", "half", "junk"],
)
async def test_what_is_fetched_is_bounded_and_a_failure_quotes_nothing(
    response: bytes, problem: str | None
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()
        writer.close()

    server = TcpServer(serve)
    await server.start()
    try:
        if problem is None:
            assert await fetch_bounded(f"http://127.0.0.1:{server.port}/keys") == FIRST
        else:
            with pytest.raises(FetchFailedError) as caught:
                await fetch_bounded(f"http://127.0.0.1:{server.port}/keys")
            assert str(caught.value) == problem
    finally:
        await server.stop()


async def test_a_url_without_a_server_is_a_failure_like_others() -> None:
    with pytest.raises(FetchFailedError, match="ConnectError"):
        await fetch_bounded("http://127.0.0.1:1/keys")
