"""The settings of the side effects: postmortems, notifications, the webhook."""

import ipaddress
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from incident.model import ResolutionType
from servicekit.process.settings import Duration, Settings

_MIN_SECRET_CHARACTERS = 16


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
    # What each post is signed with, so that its receiver knows who wrote it.
    webhook_secret: SecretStr = Field(default=SecretStr(""), validate_default=True)
    # The timeout of one delivery attempt. Must end well within the outbox's lease of 30 s, or two attempts would overlap.
    webhook_timeout: Duration = Field(
        default=timedelta(seconds=10), gt=timedelta(0), le=timedelta(seconds=20)
    )

    @field_validator("webhook_url")
    @classmethod
    def _check_webhook_url(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        text = url.get_secret_value()
        if not text:
            return url
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host, parts = None, urlsplit("")
        if parts.scheme not in ("http", "https") or not host or not text.isprintable() or " " in text:
            raise ValueError("expected a URL such as https://example.org/hooks/flywheel")
        if parts.scheme == "http" and not _is_loopback(host) and not info.data.get("webhook_insecure"):
            raise ValueError(
                "without TLS, whoever is on the way can read what is posted: use https://, "
                "or set INCIDENT_WEBHOOK_INSECURE=true if the network keeps strangers out"
            )
        return url

    @field_validator("webhook_secret")
    @classmethod
    def _check_webhook_secret(cls, secret: SecretStr, info: ValidationInfo) -> SecretStr:
        url = info.data.get("webhook_url")
        if url is not None and url.get_secret_value():
            length = len(secret.get_secret_value())
            if length == 0:
                raise ValueError("required when INCIDENT_WEBHOOK_URL is set: what is posted is always signed")
            if length < _MIN_SECRET_CHARACTERS:
                raise ValueError(f"expected at least {_MIN_SECRET_CHARACTERS} characters")
        return secret


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
