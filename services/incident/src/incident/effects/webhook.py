"""Tells another system that an incident was resolved: one signed POST. docs/webhooks.md is its receiver's contract.

httpx2 and not aiohttp: it needs three small packages of pure Python, two of which the metrics gateway's server brings
anyway, and reads no more of an answer than it is asked to.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx2

from incident.effects.model import ResolutionSnapshot
from servicekit.outbox.handler import DeliveryError, PermanentError

_VERSION = 1
# Client errors that say "not now" and not "not like this".
_NOT_NOW = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_LONGEST_RETRY_AFTER = timedelta(hours=1)
# Of an answer's body nothing is used. A short one is read, for only then can the connection be used again.
_MOST_BODY_BYTES = 65_536
_MOST_BODY_SECONDS = 1.0


class Webhook:
    """Posts to one URL. Holds connections: close it."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        timeout: timedelta,
        connections: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`timeout` is the longest a delivery may take as a whole. Raises ValueError when the URL is none."""
        try:
            self._url = httpx2.URL(url)
        except httpx2.InvalidURL:
            # Its text quotes the URL, which may hold a token.
            raise ValueError("not a URL") from None
        self._secret = secret.encode()
        self._timeout = timeout.total_seconds()
        self._clock = clock
        self._client = httpx2.AsyncClient(
            timeout=self._timeout,
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,
            headers={"User-Agent": "awoooi-incident", "Content-Type": "application/json"},
        )

    async def send(
        self,
        resolution: ResolutionSnapshot,
        *,
        delivery_id: str,
        time_to_resolve: timedelta,
        progress: Mapping[str, Any],
    ) -> None:
        """Deliver one resolution. Raises PermanentError when the receiver refused it, DeliveryError for all else."""
        body = payload(resolution, delivery_id=delivery_id, time_to_resolve=time_to_resolve)
        try:
            async with asyncio.timeout(self._timeout) as deadline:
                await self._post(body, delivery_id, deadline)
        except (TimeoutError, httpx2.TimeoutException):
            raise DeliveryError(f"no answer within {self._timeout:g} s") from None
        except httpx2.ConnectError as exc:
            # Refused, unknown host, bad certificate: its text says which and quotes no URL.
            raise DeliveryError(f"cannot connect: {exc}") from None
        except httpx2.HTTPError as exc:
            # The texts of the others may quote what the peer sent.
            raise DeliveryError(f"the connection failed: {type(exc).__name__}") from None

    async def _post(self, body: bytes, delivery_id: str, deadline: asyncio.Timeout) -> None:
        now = int(self._clock())
        headers = {
            "X-Awoooi-Signature": f"t={now},v1={sign(self._secret, now, body)}",
            "X-Awoooi-Delivery-Id": delivery_id,
            "Idempotency-Key": delivery_id,
        }
        async with self._client.stream("POST", self._url, content=body, headers=headers) as response:
            # The status is the answer, in time and whatever becomes of the body.
            deadline.reschedule(None)
            with contextlib.suppress(httpx2.HTTPError, TimeoutError):
                await _read_short_body(response)
        if response.is_success:
            return
        text = f"the receiver answered {response.status_code}"
        if response.is_client_error and response.status_code not in _NOT_NOW:
            raise PermanentError(text)
        if response.has_redirect_location:
            text += "; redirects are not followed"
        raise DeliveryError(
            text, retry_after=parse_retry_after(response.headers.get("Retry-After", ""), now=now)
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def payload(resolution: ResolutionSnapshot, *, delivery_id: str, time_to_resolve: timedelta) -> bytes:
    """Return the body, JSON in UTF-8: the same bytes for every try, for it is made of what never changes."""
    resolve_time = resolution.resolved.event_time
    content = {
        "version": _VERSION,
        "type": "incident.resolved",
        "delivery_id": delivery_id,
        "incident_id": resolution.key.incident_id,
        "resolution_number": resolution.key.resolution_number,
        "resolution_type": resolution.resolution_type,
        "title": resolution.title,
        "severity": resolution.severity,
        "source": resolution.source,
        "fingerprint": resolution.fingerprint,
        "labels": dict(sorted(resolution.labels.items())),
        "open_time": _rfc3339(resolve_time - time_to_resolve),
        "resolve_time": _rfc3339(resolve_time),
        "seconds_to_resolve": time_to_resolve.total_seconds(),
        "resolved_by": resolution.resolved.actor,
        "approval_id": resolution.resolved.attributes.get("approval_id", ""),
        "action": resolution.resolved.attributes.get("action", ""),
        "note": resolution.resolved.summary,
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """Return the hexadecimal HMAC-SHA256 over `<timestamp>.<body>`."""
    return hmac.new(secret, b"%d.%b" % (timestamp, body), hashlib.sha256).hexdigest()


def parse_retry_after(value: str, *, now: float) -> timedelta:
    """Return how long a Retry-After header asks to wait: seconds or an HTTP date; at most an hour.

    What cannot be read asks for nothing. `now` is the Unix time.
    """
    try:
        if value.isascii() and value.isdigit():
            seconds = float(value)
        else:
            seconds = parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError):
        return timedelta(0)
    return timedelta(seconds=min(max(seconds, 0.0), _LONGEST_RETRY_AFTER.total_seconds()))


async def _read_short_body(response: httpx2.Response) -> None:
    read = 0
    async with asyncio.timeout(_MOST_BODY_SECONDS):
        async for chunk in response.aiter_raw():
            read += len(chunk)
            if read > _MOST_BODY_BYTES:
                return


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
