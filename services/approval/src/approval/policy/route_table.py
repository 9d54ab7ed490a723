"""The table of a route of notifications in the policy file."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from approval.model import NotificationEvent, Risk
from approval.policy.fields import TABLE, Namespace
from approval.policy.routes import DEFAULT_EVENTS, Route
from servicekit.text import is_blank, is_line

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_MAX_APPROVER = 100
_MAX_APPROVERS = 10


def _check_channel(name: str) -> str:
    if not _CHANNEL.fullmatch(name):
        raise ValueError("is not the name of a channel: a-z, 0-9 and -, at most 63 characters")
    return name


def _check_approver(name: str) -> str:
    if is_blank(name) or not is_line(name) or len(name) > _MAX_APPROVER:
        raise ValueError(f"is not a name on one line, at most {_MAX_APPROVER} characters")
    return name


def _check_count(names: list[str]) -> list[str]:
    if len(names) > _MAX_APPROVERS:
        raise ValueError(f"has {len(names)} names, expected at most {_MAX_APPROVERS}")
    return names


class RouteTable(BaseModel):
    """The table [notifications.<name>]."""

    model_config = TABLE

    # Empty: what matches is not sent.
    channels: frozenset[Annotated[str, AfterValidator(_check_channel)]]
    risks: frozenset[Risk] | None = Field(None, min_length=1)
    namespaces: frozenset[Namespace] | None = Field(None, min_length=1)
    events: frozenset[NotificationEvent] = Field(DEFAULT_EVENTS, min_length=1)
    approvers: Annotated[
        list[Annotated[str, AfterValidator(_check_approver)]], AfterValidator(_check_count)
    ] = []

    def named(self, name: str) -> Route:
        """Return the route."""
        return Route(name, self.channels, self.risks, self.namespaces, self.events, tuple(self.approvers))
