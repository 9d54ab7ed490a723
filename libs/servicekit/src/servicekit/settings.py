"""Settings read once from the environment; a bad value names the variable and says what was expected."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, SecretStr, ValidationError
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
    try:
        return timedelta(seconds=float(match[1]) * _UNIT_SECONDS[match[2]])
    except OverflowError:
        raise ValueError("is longer than any duration can be") from None


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
        """Read the settings. A secret may also be in a file: `<VARIABLE>_FILE` names it.

        Raises SettingsError with one line a variable, never with the value: it may be a secret.
        """
        prefix = cls.model_config.get("env_prefix", "")
        try:
            return cls(**cls._secrets_from_files(prefix))
        except ValidationError as exc:
            lines = [
                f"{prefix}{'_'.join(str(part) for part in error['loc'])}".upper()
                + f": {_reason(error['msg'])}"
                for error in exc.errors(include_url=False, include_input=False, include_context=False)
            ]
            raise SettingsError("\n".join(lines)) from None

    @classmethod
    def _secrets_from_files(cls, prefix: str) -> dict[str, Any]:
        secrets: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            variable = f"{prefix}{name}".upper()
            path = os.environ.get(f"{variable}_FILE")
            if path is None or field.annotation is not SecretStr:
                continue
            if variable in os.environ:
                raise SettingsError(f"{variable}: also given by {variable}_FILE, set one of them")
            try:
                secrets[name] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as exc:
                raise SettingsError(f"{variable}_FILE: cannot be read: {type(exc).__name__}") from None
        return secrets


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")
