"""The incident service's settings: environment variables INCIDENT_<FIELD>."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from incident.effects.settings import EffectSettings
from servicekit.identity.settings import IdentitySettings
from servicekit.process.service_settings import ServiceSettings
from servicekit.process.settings import Address, Duration


class IncidentSettings(ServiceSettings, IdentitySettings, EffectSettings):
    """The settings of every service, how callers prove who they are, those of the effects, and the limits of this service."""

    model_config = SettingsConfigDict(env_prefix="INCIDENT_")

    listen: Address = "127.0.0.1:50051"
    # An unresolved incident without progress for longer than this is stuck.
    stuck_after: Duration = timedelta(minutes=30)
    # Incidents resolved longer ago than this are removed with all their rows; kept for ever when not set.
    retention: Duration | None = Field(default=None, gt=timedelta(0))
    # Watch streams that one process keeps open; more are refused with RESOURCE_EXHAUSTED. Each gets every change
    # that passes its filters, and counts among the 2,000 calls that a server takes at a time.
    watch_max_streams: int = Field(default=200, ge=1, le=1500)
