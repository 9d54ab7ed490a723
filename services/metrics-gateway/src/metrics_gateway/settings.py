"""The gateway's settings: environment variables GATEWAY_<FIELD>."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from servicekit.http.settings import HttpServiceSettings
from servicekit.process.settings import Address, Duration, parse_address
from servicekit.process.tls_settings import needs, together

# A source's name becomes a label value, which rules and dashboards quote.
SOURCE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_MIN = timedelta(milliseconds=1)


class SourceAddress(NamedTuple):
    """A service with stats: its name in labels, and its RPC address (`host:port`)."""

    name: str
    target: str


def parse_sources(value: object) -> object:
    """Turn `incident=host:port,approval=host:port` into source addresses, in the order given.

    Raises ValueError, which names the entry by its position, for anything malformed, badly named or named twice.
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError("expected at least one source, such as incident=127.0.0.1:50051")
    sources: list[SourceAddress] = []
    for position, entry in enumerate(value.split(","), start=1):
        name, separator, target = (part.strip() for part in entry.partition("="))
        if not separator:
            raise ValueError(f"entry {position}: expected name=host:port, such as incident=127.0.0.1:50051")
        if not SOURCE_NAME.fullmatch(name):
            raise ValueError(
                f"entry {position}: a name is a lower-case letter and then up to 31 lower-case letters, digits, _ or -"
            )
        if name in (source.name for source in sources):
            raise ValueError(f"entry {position}: the name {name} is given twice")
        try:
            parse_address(target)
        except ValueError as exc:
            raise ValueError(f"entry {position} ({name}): {exc}") from exc
        if target.endswith(":0"):
            raise ValueError(f"entry {position} ({name}): port 0 cannot be called")
        sources.append(SourceAddress(name, target))
    return tuple(sources)


class GatewaySettings(HttpServiceSettings):
    """Listen address, sources and timeouts of the gateway."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    # HTTP listen address. Beyond loopback only with TLS and authentication, or with INSECURE: every client that reaches the
    # port could read all stats, and on the page the titles of stuck incidents and the actions of pending approvals.
    listen: Address = "127.0.0.1:9464"
    # The services to read, each with its value of the label `source`. Replicas behind one host name are used in turn.
    sources: Annotated[tuple[SourceAddress, ...], NoDecode, BeforeValidator(parse_sources)] = (
        SourceAddress("incident", "127.0.0.1:50051"),
        SourceAddress("approval", "127.0.0.1:50052"),
    )
    # PEM files: the authorities of the services, with which they are called over TLS; the gateway's own certificate, which
    # they may require, and its key. Read again when they change. A service's certificate must have the host of its target
    # among its names.
    sources_tls_ca_file: Path | None = None
    sources_tls_cert_file: Path | None = Field(default=None, validate_default=True)
    sources_tls_key_file: Path | None = Field(default=None, validate_default=True)
    # How long a scrape that does not send its own timeout waits for a source.
    source_timeout: Duration = Field(default=timedelta(seconds=2), ge=_MIN)
    # Upper bound of a scrape's wait for a source, also when it sends a longer timeout. Stats are cheap to read: a source that needs
    # longer is unhealthy, and reported as down.
    longest_source_timeout: Duration = Field(default=timedelta(seconds=10), ge=_MIN)
    # Subtracted from the timeout that a scrape sends: the time to write the response and transfer it.
    scrape_margin: Duration = timedelta(milliseconds=500)
    # How long a scrape waits for a source whose latest request timed out. Long enough for a healthy response: the first
    # scrape after the source recovers has its stats again; with 0 it is the second.
    hung_source_patience: Duration = timedelta(milliseconds=200)

    @field_validator("sources_tls_cert_file")
    @classmethod
    def _check_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return needs(cls, "sources_tls_ca_file", value, info)

    @field_validator("sources_tls_key_file")
    @classmethod
    def _check_key(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return together(cls, "sources_tls_cert_file", value, info)
