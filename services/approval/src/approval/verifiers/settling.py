"""A monitoring system that has just been started may not know yet what is active: what it does not list is not gone."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from approval.verifiers.http_api import Answer
from approval.verifiers.protocol import CannotTellError
from servicekit.process.settings import parse_duration

_SETTLE = "APPROVAL_VERIFIER_SETTLE"


def read_settle(environment: Mapping[str, str]) -> timedelta:
    """Return the setting that both verifiers have. Raises ValueError, naming the variable."""
    try:
        settle = parse_duration(environment.get(_SETTLE, "2m"))
    except ValueError as exc:
        raise ValueError(f"{_SETTLE}: {exc}") from None
    if not isinstance(settle, timedelta):
        raise TypeError("a duration is a timedelta")
    return settle


def require_uptime(started: object, answer: Answer, minimum: timedelta) -> None:
    """Raise CannotTellError when a monitoring system is younger than `minimum`: it may not know all that is active yet.

    By its own clock alone: ours may be another.
    """
    try:
        start = datetime.fromisoformat(str(started))
    except ValueError:
        raise CannotTellError("the answer does not say since when it runs") from None
    if answer.time is None:
        raise CannotTellError("the answer has no date")
    if start.tzinfo is None:
        start = start.replace(tzinfo=UTC)
    # A date has whole seconds.
    age = answer.time + timedelta(seconds=1) - start
    if age < minimum:
        raise CannotTellError(f"it has run for less than {minimum.total_seconds():g} s")
