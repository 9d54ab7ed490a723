"""Host names in settings."""

import re
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

_HOST = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def parse_hosts(value: object) -> object:
    """Turn `metrics.example.com,*.example.org` into host names. Raises ValueError for what is no host name."""
    if not isinstance(value, str):
        return value
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    for name in names:
        if not _HOST.fullmatch(name):
            raise ValueError("expected host names without a port, such as metrics.example.com,*.example.org")
    return names


HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_hosts)]
