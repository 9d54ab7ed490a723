"""A server that stops goes on refusing as long as calls come."""

import asyncio
from typing import Any, cast

import pytest

from servicekit.rpc.in_flight import InFlightCalls
from servicekit.rpc.interceptors.drain import DrainLayer
from servicekit.rpc.status_details import RpcError


async def test_a_draining_server_refuses_calls_until_none_comes() -> None:
    async def inner(_request: Any, _context: Any) -> None:
        pytest.fail("a refused call reaches no handler")

    layer = DrainLayer(InFlightCalls())
    behavior = layer.unary("/a.B/C", inner)
    drained = asyncio.create_task(layer.drain(0))
    await asyncio.sleep(0)
    for _ in range(20):
        with pytest.raises(RpcError, match="the server is stopping"):
            await behavior(None, cast("Any", None))
        await asyncio.sleep(0)
        assert not drained.done()
    async with asyncio.timeout(20):
        await drained
