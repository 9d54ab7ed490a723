"""Signed POSTs to one URL.

The client is httpx2's core: it follows no redirects, keeps no cookies and decodes no body, and it takes connections that
bound what is received.
"""

import asyncio
import contextlib
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import httpcore2
import httpx2

from servicekit.webhooks.errors import ConnectFailedError, ConnectionFailedError, ResponseTimeoutError
from servicekit.webhooks.network import BoundedBackend
from servicekit.webhooks.proxy import environment_proxy, to_core
from servicekit.webhooks.response import Response, parse_retry_after
from servicekit.webhooks.signature import Secret, sign

_BROKEN = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.ProxyError)
_IDLE_SECONDS = 5.0
_MAX_BODY_SECONDS = 1.0


def load_trusted_roots() -> ssl.SSLContext:
    """Return a TLS context that trusts the roots of the operating system, or those that SSL_CERT_FILE names."""
    return httpcore2.default_ssl_context()


class WebhookSender:
    """Posts to one URL. Holds connections: close it."""

    def __init__(
        self,
        url: str,
        *,
        user_agent: str,
        max_connections: int | None = None,
        reuse_connections: bool = True,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without `reuse_connections` each POST has a connection of its own, and no response body is read.

        `tls` verifies certificates, by default against `load_trusted_roots()`. Raises ValueError, which never quotes the URL,
        when the URL or the environment's proxy for it cannot be used.
        """
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL:
            raise ValueError("not a URL") from None
        self._url = to_core(parsed)
        self._headers = httpx2.Headers(
            {
                "Host": parsed.netloc.decode("ascii"),
                "Accept": "*/*",
                "User-Agent": user_agent,
                "Content-Type": "application/json",
            }
        )
        if parsed.userinfo:
            credentials = b64encode(f"{parsed.username}:{parsed.password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {credentials}"
        self._reuse_connections = reuse_connections
        self._clock = clock
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls or load_trusted_roots(),
            proxy=environment_proxy(parsed),
            max_connections=max_connections,
            max_keepalive_connections=max_connections if reuse_connections else 0,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=BoundedBackend(),
        )

    async def post(
        self,
        body: bytes,
        *,
        message_id: str,
        secrets: Sequence[Secret],
        within: timedelta,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Sign and send `body`, JSON in UTF-8, once. Raises NoResponseError, after `within` at the latest.

        `message_id` is the idempotency key, the same at every attempt.
        """
        now = self._clock()
        merged = self._headers.copy()
        merged.update(headers)
        merged.update(sign(secrets, message_id=message_id, timestamp=int(now), body=body))
        try:
            async with (
                asyncio.timeout(within.total_seconds()) as deadline,
                self._pool.stream("POST", self._url, content=body, headers=merged.raw) as response,
            ):
                # The status decides, also when the body is late or broken.
                deadline.reschedule(None)
                if self._reuse_connections:
                    await _read_body(response)
        except (TimeoutError, httpcore2.TimeoutException):
            raise ResponseTimeoutError(within) from None
        except httpcore2.ConnectError as exc:
            # Refused, unknown host, bad certificate: its text names the cause and quotes no URL.
            raise ConnectFailedError(str(exc)) from None
        except _BROKEN as exc:
            # The texts of the others may quote what the peer sent.
            raise ConnectionFailedError(type(exc).__name__) from None
        return Response(response.status, parse_retry_after(_header(response, b"retry-after"), now=now))

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


async def _read_body(response: httpcore2.Response) -> None:
    # Only a connection whose response was read to its end can be used again. Nothing in it is used.
    with contextlib.suppress(TimeoutError, httpcore2.TimeoutException, *_BROKEN):
        async with asyncio.timeout(_MAX_BODY_SECONDS):
            async for _ in response.aiter_stream():
                pass


def _header(response: httpcore2.Response, name: bytes) -> str:
    values = (value for key, value in response.headers if key.lower() == name)
    return next(values, b"").decode("latin-1")
