"""Background work beside an HTTP server."""

import asyncio

import pytest
from starlette.types import Receive, Scope, Send

from servicekit.http.limits import HttpRefusals
from servicekit.http.server import HttpServer
from servicekit.process.background import BackgroundEndedError


async def no_application(_scope: Scope, _receive: Receive, _send: Send) -> None:
    pytest.fail("no request is made")


async def test_an_http_server_whose_background_work_ends_stops_and_says_which() -> None:
    async def ends() -> None:
        raise ValueError("why")

    cancelled = asyncio.Event()

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    server = HttpServer(no_application, "127.0.0.1:0", drain_seconds=1, refusals=HttpRefusals())
    with pytest.raises(BackgroundEndedError, match=r"^identities$") as caught:
        async with asyncio.timeout(20):
            await server.serve_until(asyncio.Event(), {"identities": ends(), "certificates": goes_on()})
    assert isinstance(caught.value.__cause__, ValueError)
    assert cancelled.is_set()
