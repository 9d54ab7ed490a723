"""The side effects on other systems: each takes effect at least once, with the same delivery id at every try."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from incident.effects import repository as effects
from incident.effects.handler import EffectHandler, resolution_key, skipped_type, time_to_resolve
from incident.effects.repository import ResolvedIncident
from incident.effects.settings import EffectSettings
from incident.model import Effect, ResolutionType
from servicekit.database.engine import autocommit
from servicekit.outbox.handler import PermanentError, Topic
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction
from servicekit.process.settings import SettingsError

if TYPE_CHECKING:
    from incident.effects.notification import Notifier
    from incident.effects.webhook import Webhook

_NOTIFY_TIMEOUT = timedelta(seconds=20)
# Beyond a sender's own timeout: to read the resolution before, and a short body after.
_TIMEOUT_MARGIN = timedelta(seconds=5)
# Jobs of one effect that wait for answers at a time.
_CONCURRENCY = 8


class Sender(Protocol):
    """Tells somebody of a resolution."""

    async def send(
        self,
        resolution: ResolvedIncident,
        *,
        delivery_id: str,
        time_to_resolve: timedelta,
        earlier: Mapping[str, Any],
    ) -> None:
        """Tell; `earlier` holds what earlier tries gave as their progress.

        Raises PermanentError when the same will be refused again, DeliveryError when it may work later.
        """


@dataclass(frozen=True, slots=True)
class OutsideSystems:
    """Whom to tell: None where the settings name nobody."""

    notifier: "Notifier | None"
    webhook: "Webhook | None"

    async def close(self) -> None:
        """Close connections."""
        if self.webhook is not None:
            await self.webhook.close()


def open_outside_systems(settings: EffectSettings) -> OutsideSystems:
    """Return whom the settings name. Raises SettingsError."""
    # Apprise and httpx2 take long to import: only who uses them waits for it.
    notifier = webhook = None
    if urls := settings.notify_urls.get_secret_value().strip():
        from incident.effects.notification import Notifier, NotifyUrlError  # noqa: PLC0415 - as above

        try:
            notifier = Notifier(urls, timeout=_NOTIFY_TIMEOUT)
        except NotifyUrlError as exc:
            raise SettingsError(f"INCIDENT_NOTIFY_URLS: {exc}") from None
    if url := settings.webhook_url.get_secret_value():
        from incident.effects.webhook import Webhook  # noqa: PLC0415 - as above

        try:
            webhook = Webhook(
                url,
                settings.webhook_secret.get_secret_value(),
                timeout=settings.webhook_timeout,
                connections=_CONCURRENCY,
            )
        except ValueError as exc:
            raise SettingsError(f"INCIDENT_WEBHOOK_URL: {exc}") from None
    return OutsideSystems(notifier, webhook)


def left_out(systems: OutsideSystems) -> Mapping[Effect, str]:
    """Return the effects that nobody is named for, each with the reason: they are left out when they are queued."""
    unset = {
        Effect.NOTIFICATION: None if systems.notifier else "INCIDENT_NOTIFY_URLS is not set",
        Effect.WEBHOOK: None if systems.webhook else "INCIDENT_WEBHOOK_URL is not set",
    }
    return {effect: reason for effect, reason in unset.items() if reason is not None}


class OutsideHandler(EffectHandler):
    """Has a sender tell of each resolution; without one, the effect is left out."""

    def __init__(
        self,
        engine: AsyncEngine,
        sender: Sender | None,
        *,
        effect: Effect,
        variable: str,
        skip: frozenset[ResolutionType] = frozenset(),
    ) -> None:
        """`variable` is the setting that names whom to tell."""
        self.effect = effect
        self._reads = autocommit(engine)
        self._sender = sender
        self._variable = variable
        self._skip = skip

    def skip_reason(self, job: Job) -> str | None:
        """Nobody is named, or not for this type of resolution."""
        if self._sender is None:
            return f"{self._variable} is not set"
        return skipped_type(job, self._skip, variable="INCIDENT_NOTIFY_SKIP")

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        """Tell of each resolution."""
        async with self._reads.connect() as connection:
            found = await effects.get_resolutions(connection, [resolution_key(job) for job in jobs])
        resolutions = {resolution.key: resolution for resolution in found}
        return [await self._deliver(job, resolutions.get(resolution_key(job))) for job in jobs]

    async def _deliver(self, job: Job, resolution: ResolvedIncident | None) -> Exception | None:
        if resolution is None or self._sender is None:
            return PermanentError("the incident is no longer there")
        try:
            await self._sender.send(
                resolution,
                delivery_id=self.effect.delivery_id(resolution.key),
                time_to_resolve=time_to_resolve(job),
                earlier=job.payload,
            )
        except Exception as exc:
            return exc
        return None

    async def write(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        """Nothing: what it leaves is outside."""


def outside_topics(
    engine: AsyncEngine, settings: EffectSettings, systems: OutsideSystems
) -> Mapping[Effect, Topic]:
    """Return the topic of each effect on another system."""
    notification = OutsideHandler(
        engine,
        systems.notifier,
        effect=Effect.NOTIFICATION,
        variable="INCIDENT_NOTIFY_URLS",
        skip=settings.notify_skip,
    )
    webhook = OutsideHandler(engine, systems.webhook, effect=Effect.WEBHOOK, variable="INCIDENT_WEBHOOK_URL")
    return {
        Effect.NOTIFICATION: _topic(notification, _NOTIFY_TIMEOUT if systems.notifier else None),
        Effect.WEBHOOK: _topic(webhook, settings.webhook_timeout if systems.webhook else None),
    }


def _topic(handler: OutsideHandler, timeout: timedelta | None) -> Topic:
    name = handler.effect.topic
    if timeout is None:
        # Nobody is told: many jobs are skipped in one transaction.
        return Topic(name, handler)
    # One at a time, so that a receiver that hangs on one job holds up no other job's mark.
    return Topic(name, handler, timeout=timeout + _TIMEOUT_MARGIN, max_batch=1, concurrency=_CONCURRENCY)
