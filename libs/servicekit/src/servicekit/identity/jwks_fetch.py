"""Fetches a key set or a discovery document over HTTP. Apart, since the HTTP client is loaded by those alone who use it."""

import asyncio

import httpx2

from servicekit.identity.key_sources import FetchFailedError

_SECONDS = 5.0
_MAX_BYTES = 256 << 10


async def fetch_bounded(url: str) -> bytes:
    """Return what a URL holds. Raises FetchFailedError."""
    content = b""
    try:
        async with (
            asyncio.timeout(_SECONDS),
            # A redirect may lead away from what was configured.
            httpx2.AsyncClient(follow_redirects=False, timeout=_SECONDS) as client,
            # Not compressed: a few bytes could be gigabytes.
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status_code != httpx2.codes.OK:
                raise FetchFailedError(f"HTTP status {response.status_code}")
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > _MAX_BYTES:
                    raise FetchFailedError(f"more than {_MAX_BYTES >> 10} KiB")
    except TimeoutError:
        raise FetchFailedError("no response in time") from None
    except httpx2.HTTPError as exc:
        raise FetchFailedError(type(exc).__name__) from None
    return content
