"""Reads the bodies of requests within bounds: the size of one, of all that are answered at once, and the time to send it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from servicekit.http.limits import HttpLimits, HttpRefusals


class BodyRefusedError(Exception):
    """A body is beyond a limit."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status

    def response(self) -> Response:
        """Return what the client gets. What follows on the connection is not read: it may be the body."""
        headers = {"Connection": "close", "Cache-Control": "no-store"}
        if self.status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = "1"
        return PlainTextResponse(f"{self.status.phrase}\n", status_code=self.status, headers=headers)


class Bodies:
    """The bodies that one server holds."""

    def __init__(self, limits: HttpLimits, refusals: HttpRefusals) -> None:
        self._limits = limits
        self._refusals = refusals
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the body of a request, which counts as held until the block ends.

        Raises BodyRefusedError, and ClientDisconnect when the client goes before the end of the body.
        """
        size = self._size(request)
        if self._held + size > self._limits.bodies_bytes:
            raise self._refused("bodies", HTTPStatus.SERVICE_UNAVAILABLE)
        self._held += size
        try:
            yield await self._read(request)
        finally:
            self._held -= size

    def _size(self, request: Request) -> int:
        """Return the size that is held for a body: in parts its size is not known, and it may be the largest."""
        if "transfer-encoding" in request.headers:
            return self._limits.body_bytes
        return int(request.headers.get("content-length", "0"))

    async def _read(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_time.total_seconds()):
                async for part in request.stream():
                    body += part
                    if len(body) > self._limits.body_bytes:
                        raise self._refused("body", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        except TimeoutError:
            raise self._refused("body_time", HTTPStatus.REQUEST_TIMEOUT) from None
        return bytes(body)

    def _refused(self, limit: str, status: HTTPStatus) -> BodyRefusedError:
        self._refusals.add(limit)
        return BodyRefusedError(status)
