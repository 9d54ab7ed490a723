"""Settings read once from the environment; a bad value names the variable and says what was expected."""

import re
from datetime import timedelta
from typing import Annotated, Self

from pydantic import BeforeValidator, ValidationError
from pydantic_settings import BaseSettings

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_UNIT_SECONDS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})")
_MAX_PORT = 65_535


class SettingsError(Exception):
    """The environment holds a setting that cannot be used."""


def parse_duration(value: object) -> object:
    """Turn `500ms`, `30s`, `30m`, `24h`, `7d` or a plain number of seconds into a timedelta.

    Raises ValueError for anything else, a negative number and a non-finite one included.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("expected a duration such as 500ms, 30s, 30m, 24h or a number of seconds")
    return timedelta(seconds=float(match[1]) * _UNIT_SECONDS[match[2]])


def parse_address(value: object) -> object:
    """Check `host:port` (an IPv6 host in brackets; port 0 lets the system choose).

    Raises ValueError for anything else.
    """
    match = _ADDRESS.fullmatch(str(value).strip())
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ValueError("expected host:port, such as 127.0.0.1:50051")
    return str(value).strip()


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Address = Annotated[str, BeforeValidator(parse_address)]


class Settings(BaseSettings):
    """Base of every service's settings. Subclasses set `env_prefix` and describe each field's effect."""

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings.

        Raises SettingsError with one line a variable, never with the value: it may be a secret.
        """
        try:
            return cls()
        except ValidationError as exc:
            prefix = cls.model_config.get("env_prefix", "")
            lines = [
                f"{prefix}{'_'.join(str(part) for part in error['loc'])}".upper()
                + f": {_reason(error['msg'])}"
                for error in exc.errors(include_url=False, include_input=False, include_context=False)
            ]
            raise SettingsError("\n".join(lines)) from None


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")
