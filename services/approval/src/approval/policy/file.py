"""Parses the policy file: the rules of auto-approval, and the routes of notifications. docs/policy.md shows both."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import time
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from approval.model import OperationKind, Risk, Severity
from approval.policy.fields import TABLE, Hook, Namespace
from approval.policy.model import Policy, Rule, TimeOfDay
from approval.policy.route_table import RouteTable
from approval.policy.routes import Routes
from servicekit.process.toml import NotTomlError, parse_toml
from servicekit.text import shown

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_KUBERNETES = frozenset(
    {OperationKind.RESTART, OperationKind.SCALE, OperationKind.DELETE, OperationKind.ROLLBACK}
)
# Problems in the words of the file in place of pydantic's.
_SENTENCES = {
    "missing": "is required",
    "frozen_set_type": 'expected a list, such as ["…"]',
    "list_type": 'expected a list, such as ["…"]',
    "too_short": "is an empty list, which nothing fits: leave the rule out",
    "string_type": 'expected a text in quotes, such as "…"',
    "float_type": "expected a number from 0 to 1",
    "greater_than_equal": "expected a number from 0 to 1",
    "less_than_equal": "expected a number from 0 to 1",
    "finite_number": "expected a number from 0 to 1",
    "model_type": "expected a table",
    "dict_type": "expected a table",
}


_SENTENCES_OF_ROUTES = {"too_short": "is an empty list, which nothing fits: leave the key out"}


class PolicyFileError(Exception):
    """A policy file cannot be used; `problems` has one sentence for each place where something is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def parse_policy(content: bytes, *, channels: Collection[str] = ()) -> Policy:
    """Return the policy in a file's content. `channels` are those that routes can name; none: they are not checked.

    Raises PolicyFileError, which names line and column of what is not TOML, and rule and key of anything else.
    """
    try:
        table = parse_toml(content)
    except NotTomlError as exc:
        raise PolicyFileError([str(exc)]) from None
    try:
        file = _File.model_validate(table)
    except ValidationError as exc:
        raise PolicyFileError([_problem(error) for error in exc.errors(include_url=False)]) from None
    routes = [route.named(name) for name, route in file.notifications.items()]
    if unknown := [
        f"notifications.{route.name}.channels: there is no channel {shown(name)} in APPROVAL_NOTIFY_URLS;"
        f" known are {', '.join(sorted(channels))}"
        for route in routes
        for name in sorted(route.channels - set(channels))
        if channels
    ]:
        raise PolicyFileError(unknown)
    return Policy(tuple(rule.named(name) for name, rule in file.rules.items()), Routes(tuple(routes)))


def _parse_time(value: object) -> time:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('expected a time such as "22:00"')
    return time(int(match[1]), int(match[2]))


def _find_zone(value: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(value))
    # A directory of the zone database is an OSError.
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f'there is no time zone {value!r} on this machine; expected one such as "UTC" or "Europe/Berlin"'
        ) from None


_ClockTime = Annotated[time, BeforeValidator(_parse_time)]


class _TimeOfDayTable(BaseModel):
    model_config = TABLE

    # "from" is no name in Python.
    start: _ClockTime = Field(alias="from")
    until: _ClockTime
    # No default: a window by the clocks of another place is another window.
    zone: Annotated[ZoneInfo, BeforeValidator(_find_zone)]

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.start == self.until:
            raise ValueError("from and until are the same; for the whole day, leave time_of_day out")
        return self


class _RuleTable(BaseModel):
    model_config = TABLE

    actions: frozenset[OperationKind] = Field(min_length=1)
    risks: frozenset[Risk] = Field(min_length=1)
    namespaces: frozenset[Namespace] | None = Field(None, min_length=1)
    hooks: frozenset[Hook] | None = Field(None, min_length=1)
    # Strict: neither a text nor true is a number.
    confidence_at_least: float | None = Field(None, strict=True, ge=0, le=1, allow_inf_nan=False)
    severities: frozenset[Severity] | None = Field(None, min_length=1)
    time_of_day: _TimeOfDayTable | None = None

    @model_validator(mode="after")
    def _check_targets(self) -> Self:
        """Require the targets of a rule, and that each of its criteria applies to each of its actions."""
        _check_targets_of(self.actions, _KUBERNETES, "namespaces", self.namespaces)
        _check_targets_of(self.actions, frozenset({OperationKind.HTTP}), "hooks", self.hooks)
        return self

    def named(self, name: str) -> Rule:
        window = self.time_of_day
        return Rule(
            name,
            self.actions,
            self.risks,
            self.namespaces,
            self.hooks,
            self.confidence_at_least,
            self.severities,
            None if window is None else TimeOfDay(window.start, window.until, window.zone),
        )


def _check_targets_of(
    actions: frozenset[OperationKind],
    having: frozenset[OperationKind],
    key: str,
    targets: frozenset[str] | None,
) -> None:
    if targets is None and (those := actions & having):
        raise ValueError(f"{key} is required with {_listed(those)}")
    if targets is not None and (others := actions - having):
        raise ValueError(f"{_listed(others)} has no {key}: give it a rule of its own")


def _listed(kinds: frozenset[OperationKind]) -> str:
    return " and ".join(kind for kind in OperationKind if kind in kinds)


def _check_rule_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("is not the name of a rule: a-z, 0-9 and -, at most 63 characters")
    return name


def _check_route_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("is not the name of a route: a-z, 0-9 and -, at most 63 characters")
    return name


class _File(BaseModel):
    model_config = TABLE

    # An empty file is valid and approves nothing: an operator may empty it in an emergency.
    rules: Mapping[Annotated[str, AfterValidator(_check_rule_name)], _RuleTable] = {}
    notifications: Mapping[Annotated[str, AfterValidator(_check_route_name)], RouteTable] = {}


def _table(place: Sequence[str]) -> type[BaseModel]:
    """Return the table with the key at this place: of the file, (rules, a rule's name), its time of day; of a route."""
    if len(place) == 1:
        return _File
    if place[0] == "notifications":
        return RouteTable
    return _RuleTable if len(place) == 3 else _TimeOfDayTable  # noqa: PLR2004 - as above


def _problem(error: Any) -> str:
    place = [str(part) for part in error["loc"] if part != "[key]"]
    if error["type"] == "extra_forbidden":
        sentence = _unknown_key(place)
    else:
        sentences = _SENTENCES | (_SENTENCES_OF_ROUTES if place[:1] == ["notifications"] else {})
        sentence = sentences.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    names = [part if part.isprintable() else shown(part) for part in place]
    return f"{'.'.join(names)}: {sentence}"


def _unknown_key(place: Sequence[str]) -> str:
    fields = _table(place).model_fields.items()
    known = [field.alias or name for name, field in fields]
    close = difflib.get_close_matches(place[-1], known, n=1)
    return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; known are {', '.join(known)}"
