"""Times and spans as people type them: `2h` ago, or a moment."""

import re
from datetime import UTC, datetime, timedelta

import typer

_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def span(text: str) -> timedelta:
    """Read `90s`, `30m`, `2h`, `7d` or `2w`. Raises BadParameter, to which typer adds the flag."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no span of time; for example 30m, 2h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def moment(text: str) -> datetime:
    """Read a span as that long ago, or a time of RFC 3339; one without a zone is UTC. Raises BadParameter."""
    if _SPAN.fullmatch(text.strip()):
        try:
            return datetime.now(UTC) - span(text)
        except OverflowError:
            raise typer.BadParameter(f"{text!r} is too long ago") from None
    try:
        read = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; for example 2h, 7d, 2026-05-07 or 2026-05-07T10:30:00Z"
        ) from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)
