"""The webhook: one signed POST for each resolution. docs/webhooks.md is its receiver's contract."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from incident.effects.model import ResolutionSnapshot
from servicekit.outbox.handler import DeliveryError, PermanentError
from servicekit.webhooks.errors import NoResponseError
from servicekit.webhooks.response import Verdict
from servicekit.webhooks.sender import WebhookSender
from servicekit.webhooks.signature import parse_secrets

_VERSION = 1


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
        """`timeout` bounds a delivery as a whole. Raises ValueError when the URL or the secret cannot be used."""
        self._secrets = parse_secrets(secret)
        self._timeout = timeout
        self._sender = WebhookSender(
            url, user_agent="awoooi-incident", max_connections=connections, clock=clock
        )

    async def send(
        self,
        resolution: ResolutionSnapshot,
        *,
        delivery_id: str,
        time_to_resolve: timedelta,
        progress: Mapping[str, Any],
    ) -> None:
        """Deliver one resolution. Raises PermanentError when a retry would be rejected too, else DeliveryError."""
        body = payload(resolution, delivery_id=delivery_id, time_to_resolve=time_to_resolve)
        try:
            response = await self._sender.post(
                body,
                message_id=delivery_id,
                secrets=self._secrets,
                within=self._timeout,
                # Deprecated in favour of webhook-id.
                headers={"X-Awoooi-Delivery-Id": delivery_id},
            )
        except NoResponseError as exc:
            raise DeliveryError(str(exc)) from None
        match response.verdict:
            case Verdict.REJECTED:
                raise PermanentError(f"the receiver {response}")
            case Verdict.RETRY:
                raise DeliveryError(f"the receiver {response}", retry_after=response.retry_after)

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.close()


def payload(resolution: ResolutionSnapshot, *, delivery_id: str, time_to_resolve: timedelta) -> bytes:
    """Return the body, JSON in UTF-8: the same bytes at every attempt, made of what never changes."""
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


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
