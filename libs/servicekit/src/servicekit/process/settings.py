"""Settings read once from the environment; the error of a bad value names the variable and the expected form."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

from servicekit.process.files import why_unreadable

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_UNIT_SECONDS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})")
_MAX_PORT = 65_535

# The library's errors in an operator's words.
_EXPECTED = {
    "bool_parsing": "expected true or false, or on or off",
    "bool_type": "expected true or false, or on or off",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_parsing_size": "expected a smaller number",
    "float_parsing": "expected a number",
    "missing": "must be set",
}
_OUT_OF_RANGE = frozenset({"greater_than", "greater_than_equal", "less_than", "less_than_equal"})
_WORDS = re.compile(r"\^\(([A-Za-z|]+)\)\$")


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

    @field_validator("*")
    @classmethod
    def _check_is_text(cls, value: Any) -> Any:
        """Refuse a secret that is not UTF-8: encoding it later would fail, and the error quotes it."""
        if isinstance(value, SecretStr) and not _is_text(value.get_secret_value()):
            raise ValueError("it is not UTF-8 text")
        return value

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
                + f": {_reason(error, cls.model_fields.get(str(error['loc'][0])) if error['loc'] else None)}"
                for error in exc.errors(include_url=False, include_input=False)
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
                # Anything but an absolute path may be the secret itself, given to the wrong variable.
                shown = f"{path}: " if path.startswith("/") else ""
                raise SettingsError(f"{variable}_FILE: {shown}{why_unreadable(exc)}") from None
        return secrets


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reason(error: ErrorDetails, field: FieldInfo | None) -> str:
    kind = error["type"]
    if kind in _OUT_OF_RANGE and field is not None:
        return f"expected {_range(field)}"
    if kind == "string_pattern_mismatch" and (words := _WORDS.fullmatch(error["ctx"]["pattern"])):
        *first, last = words[1].split("|")
        return f"expected {', '.join(first)} or {last}" if first else f"expected {last}"
    return _EXPECTED.get(kind) or error["msg"].removeprefix("Value error, ")


def _range(field: FieldInfo) -> str:
    """Return the bounds of a field in words, such as `3 to 200`."""
    bounds = {
        name: _shown(getattr(item, name))
        for item in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if getattr(item, name, None) is not None
    }
    if {"ge", "le"} <= bounds.keys():
        return f"{bounds['ge']} to {bounds['le']}"
    words = {"ge": "{} or more", "gt": "more than {}", "le": "{} or less", "lt": "less than {}"}
    return " and ".join(words[name].format(bound) for name, bound in bounds.items())


def _shown(bound: object) -> str:
    if not isinstance(bound, timedelta):
        return str(bound)
    seconds = bound.total_seconds()
    return f"{seconds * 1000:g}ms" if 0 < seconds < 1 else f"{seconds:g}s"
