"""What may go wrong with a request of the cluster."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from tests.approval.unit.executors.kubernetes.cluster_server import ApiError, Applied, Fault


def status(code: int) -> Fault:
    """Answer with a status, and change nothing."""

    async def fault(_request: web.BaseRequest, _applied: Applied) -> web.StreamResponse:
        return ApiError(code).response()

    return fault


def meanwhile(change: Callable[[], None]) -> Fault:
    """Somebody else changes something at this moment; then go on."""

    async def fault(_request: web.BaseRequest, applied: Applied) -> web.StreamResponse:
        change()
        return applied()

    return fault


def afterwards(change: Callable[[], None]) -> Fault:
    """Go on, and somebody else changes something before the next request."""

    async def fault(_request: web.BaseRequest, applied: Applied) -> web.StreamResponse:
        response = applied()
        change()
        return response

    return fault


async def drop(request: web.BaseRequest, _applied: Applied) -> web.StreamResponse:
    """Drop the connection, and change nothing."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def drop_answer(request: web.BaseRequest, applied: Applied) -> web.StreamResponse:
    """Do the request, and drop the connection."""
    applied()
    return await drop(request, applied)


async def hang(_request: web.BaseRequest, _applied: Applied) -> web.StreamResponse:
    """Never respond."""
    await asyncio.Event().wait()
    return web.Response()


async def no_json(_request: web.BaseRequest, _applied: Applied) -> web.StreamResponse:
    """Answer as a proxy does."""
    return web.Response(text="<html>private-detail</html>", content_type="text/html")
