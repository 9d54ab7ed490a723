"""Formatting of texts and times for people."""

from datetime import timedelta


def as_line(text: str) -> str:
    """Return `text` on one line: a line break from a caller must not start a section or a message."""
    return " ".join(text.split())


def shorten(text: str, length: int) -> str:
    """Return `text` with at most `length` characters; an ellipsis replaces the rest."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def format_duration(time: timedelta) -> str:
    """Return a duration as people read it, such as `1 h 0 min 5 s`."""
    minutes, seconds = divmod(int(time.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes or hours else "", f"{seconds} s"]
    return " ".join(filter(None, parts))
