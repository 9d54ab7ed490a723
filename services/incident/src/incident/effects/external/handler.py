"""The side effects on external systems: at-least-once delivery, with the same delivery id at every attempt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from incident.effects import repository
from incident.effects.external.notification import Notification
from incident.effects.handler import EffectHandler, disabled_type
from incident.effects.model import ResolutionSnapshot
from incident.effects.settings import EffectSettings
from incident.lifecycle.effect_jobs import EffectPayload
from incident.model import Effect, ResolutionType
from servicekit.notifications.opening import open_notifier
from servicekit.outbox.handler import PermanentError, Topic
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transactions
from servicekit.process.settings import SettingsError

if TYPE_CHECKING:
    from incident.effects.external.webhook import Webhook

_NOTIFY_TIMEOUT = timedelta(seconds=20)
# Beyond a sender's own timeout: for reading the snapshot before, and a short response body after.
_TIMEOUT_MARGIN = timedelta(seconds=5)
# Deliveries of one effect in flight at a time.
_CONCURRENCY = 8


class Sender(Protocol):
    """Delivers resolutions to one external system."""

    async def send(
        self,
        resolution: ResolutionSnapshot,
        *,
        delivery_id: str,
        time_to_resolve: timedelta,
        progress: Mapping[str, Any],
    ) -> None:
        """Deliver a resolution; `progress` is the merged progress of the errors of earlier attempts.

        Raises PermanentError when a retry would be refused too, DeliveryError when a retry may succeed.
        """


@dataclass(frozen=True, slots=True)
class ExternalSystems:
    """The external systems: None where none is configured."""

    notifier: Notification | None
    webhook: "Webhook | None"

    async def close(self) -> None:
        """Close connections."""
        if self.webhook is not None:
            await self.webhook.close()


def open_external_systems(settings: EffectSettings) -> ExternalSystems:
    """Return the configured external systems. Raises SettingsError."""
    notifier = open_notifier(settings.notify_urls, variable="INCIDENT_NOTIFY_URLS", timeout=_NOTIFY_TIMEOUT)
    notification = None if notifier is None else Notification(notifier)
    webhook = None
    if url := settings.webhook_url.get_secret_value():
        # The HTTP client takes long to import: only a process that uses it pays for it.
        from incident.effects.external.webhook import Webhook  # noqa: PLC0415 - as above

        try:
            webhook = Webhook(
                url,
                settings.webhook_secret.get_secret_value(),
                timeout=settings.webhook_timeout,
                connections=_CONCURRENCY,
            )
        except ValueError as exc:
            raise SettingsError(f"INCIDENT_WEBHOOK_URL: {exc}") from None
    return ExternalSystems(notification, webhook)


def disabled_effects(systems: ExternalSystems) -> Mapping[Effect, str]:
    """Return the effects without an external system, each with the reason: they are enqueued SKIPPED."""
    unset = {
        Effect.NOTIFICATION: None if systems.notifier else "INCIDENT_NOTIFY_URLS is not set",
        Effect.WEBHOOK: None if systems.webhook else "INCIDENT_WEBHOOK_URL is not set",
    }
    return {effect: reason for effect, reason in unset.items() if reason is not None}


class ExternalHandler(EffectHandler):
    """Delivers each resolution through a sender; without one the effect is disabled."""

    def __init__(
        self,
        transactions: Transactions,
        sender: Sender | None,
        *,
        effect: Effect,
        variable: str,
        skip: frozenset[ResolutionType] = frozenset(),
    ) -> None:
        """`variable` is the setting that configures the sender; `skip` are resolution types that are not delivered."""
        self.effect = effect
        self._transactions = transactions
        self._sender = sender
        self._variable = variable
        self._skip = skip

    def skip_reason(self, job: Job) -> str | None:
        """No sender is configured, or the resolution type is disabled."""
        if self._sender is None:
            return f"{self._variable} is not set"
        return disabled_type(job, self._skip, variable="INCIDENT_NOTIFY_SKIP")

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        """Deliver each resolution."""
        payloads = [EffectPayload.from_json(job.payload) for job in jobs]
        async with self._transactions.statement() as connection:
            snapshots = await repository.get_snapshots(connection, [payload.key for payload in payloads])
        return [
            await self._deliver(job, payload, snapshots.get(payload.key))
            for job, payload in zip(jobs, payloads, strict=True)
        ]

    async def _deliver(
        self, job: Job, payload: EffectPayload, snapshot: ResolutionSnapshot | None
    ) -> Exception | None:
        if snapshot is None or self._sender is None:
            return PermanentError("the incident is no longer there")
        try:
            await self._sender.send(
                snapshot,
                delivery_id=self.effect.delivery_id(snapshot.key),
                time_to_resolve=payload.time_to_resolve,
                progress=job.payload,
            )
        except Exception as exc:
            return exc
        return None


def external_topics(
    transactions: Transactions, settings: EffectSettings, systems: ExternalSystems
) -> Mapping[Effect, Topic]:
    """Return the topic of each effect on an external system."""
    notification = ExternalHandler(
        transactions,
        systems.notifier,
        effect=Effect.NOTIFICATION,
        variable="INCIDENT_NOTIFY_URLS",
        skip=settings.notify_skip,
    )
    webhook = ExternalHandler(
        transactions, systems.webhook, effect=Effect.WEBHOOK, variable="INCIDENT_WEBHOOK_URL"
    )
    return {
        Effect.NOTIFICATION: _topic(notification, _NOTIFY_TIMEOUT if systems.notifier else None),
        Effect.WEBHOOK: _topic(webhook, settings.webhook_timeout if systems.webhook else None),
    }


def _topic(handler: ExternalHandler, timeout: timedelta | None) -> Topic:
    name = handler.effect.topic
    if timeout is None:
        # Disabled: nothing is enqueued. Jobs of before that are skipped, many in one transaction.
        return Topic(name, handler, only_polled=True)
    # Batches of one, so that a receiver that hangs on one job delays no other job's mark.
    return Topic(
        name,
        handler,
        timeout=timeout + _TIMEOUT_MARGIN,
        max_batch=1,
        concurrency=_CONCURRENCY,
        only_requests=True,
    )
