"""The settings of the side effects: postmortems, notifications, the webhook."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from incident.model import ResolutionType
from servicekit.process.settings import Duration, Settings
from servicekit.webhooks.signature import parse_secrets
from servicekit.webhooks.url import check_url


def _parse_resolution_types(value: object) -> object:
    if not isinstance(value, str):
        return value
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not set(names) <= set(ResolutionType):
        raise ValueError(f"expected resolution types, separated by commas, of {', '.join(ResolutionType)}")
    return frozenset(ResolutionType(name) for name in names)


ResolutionTypes = Annotated[frozenset[ResolutionType], NoDecode, BeforeValidator(_parse_resolution_types)]


class EffectSettings(Settings):
    """Fields of IncidentSettings."""

    # Resolution types without a postmortem.
    postmortem_skip: ResolutionTypes = frozenset()
    # A Jinja template in place of the built-in one.
    postmortem_template: Path | None = None
    # Apprise URLs that are notified, separated by white space or commas; none when empty.
    notify_urls: SecretStr = SecretStr("")
    # Resolution types without a notification.
    notify_skip: ResolutionTypes = frozenset()
    # Post to another machine without TLS: every host on the path can read titles, labels and notes.
    webhook_insecure: bool = False
    # The URL that each resolution is posted to; off when empty. A secret, for it may hold a token.
    webhook_url: SecretStr = SecretStr("")
    # Signing secrets of the posts: one, or during a rotation several (servicekit.webhooks.signature.parse_secrets).
    webhook_secret: SecretStr = Field(default=SecretStr(""), validate_default=True)
    # The timeout of one delivery attempt. Must end well within the outbox's lease of 30 s, or two attempts would overlap.
    webhook_timeout: Duration = Field(
        default=timedelta(seconds=10), gt=timedelta(0), le=timedelta(seconds=20)
    )

    @field_validator("webhook_url")
    @classmethod
    def _check_webhook_url(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        if text := url.get_secret_value():
            check_url(
                text,
                example="https://example.org/hooks/flywheel",
                insecure=info.data.get("webhook_insecure", False),
                override="set INCIDENT_WEBHOOK_INSECURE=true if the network is trusted",
            )
        return url

    @field_validator("webhook_secret")
    @classmethod
    def _check_webhook_secret(cls, secret: SecretStr, info: ValidationInfo) -> SecretStr:
        url = info.data.get("webhook_url")
        if url is not None and url.get_secret_value() and not parse_secrets(secret.get_secret_value()):
            raise ValueError("required when INCIDENT_WEBHOOK_URL is set: what is posted is always signed")
        return secret
