"""The gateway's settings: environment variables GATEWAY_<FIELD>."""

import re
from datetime import timedelta
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from servicekit.process.settings import Address, Duration, Settings, parse_address

# A source's name becomes a label value that rules and dashboards quote.
SOURCE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_SHORTEST = timedelta(milliseconds=1)


class SourceAddress(NamedTuple):
    """A service that has figures: the name it gets in labels, and where it serves RPCs (`host:port`)."""

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


class GatewaySettings(Settings):
    """Where the gateway listens, whom it asks, and how patient it is."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    # Where HTTP is served. Beyond loopback only with INSECURE: whoever reaches the port may read every figure,
    # and on the page the titles of stuck incidents and the actions that wait for a decision.
    listen: Address = "127.0.0.1:9464"
    # Serve HTTP beyond loopback although there is no authentication. The same as the option --insecure.
    insecure: bool = False
    # Whom to ask, and the value of the label `source` for each. All replicas behind one host name are used in turn.
    sources: Annotated[tuple[SourceAddress, ...], NoDecode, BeforeValidator(parse_sources)] = (
        SourceAddress("incident", "127.0.0.1:50051"),
        SourceAddress("approval", "127.0.0.1:50052"),
    )
    # How long a scrape waits for a source when it does not say how long it waits itself.
    source_timeout: Duration = Field(default=timedelta(seconds=2), ge=_SHORTEST)
    # The longest a scrape waits for a source, however patient it says it is. The figures are cheap to read: a source that
    # needs longer is ill, and better reported as such.
    longest_source_timeout: Duration = Field(default=timedelta(seconds=10), ge=_SHORTEST)
    # Taken off the time a scrape says it waits: what is needed to write the answer and bring it to the scraper.
    scrape_margin: Duration = timedelta(milliseconds=500)
    # How long a scrape waits for a source that hung the last time it was asked. Long enough for a healthy answer: with
    # it the first scrape after the source recovers has its figures again; with 0 it is the second.
    hung_source_patience: Duration = timedelta(milliseconds=200)
    # What is logged: DEBUG, INFO, WARNING or ERROR.
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
