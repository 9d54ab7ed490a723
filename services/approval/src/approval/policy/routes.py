"""The routes of notifications: to which channels messages about an approval go, by its risk and namespace."""

from collections.abc import Sequence
from dataclasses import dataclass

from approval.model import NotificationEvent, Risk

# A rule decides at once, often, and without anybody's waiting for it: a route names it to have it.
DEFAULT_EVENTS = frozenset(NotificationEvent) - {NotificationEvent.AUTO_APPROVED}


@dataclass(frozen=True, slots=True)
class Route:
    """Messages about approvals that match every criterion go to its channels; a criterion that is None is not applied."""

    name: str
    channels: frozenset[str]
    risks: frozenset[Risk] | None = None
    # Of an object in a cluster; an approval without a namespace never matches.
    namespaces: frozenset[str] | None = None
    events: frozenset[NotificationEvent] = DEFAULT_EVENTS
    # The people who are to decide, named in the message. It grants nothing.
    approvers: Sequence[str] = ()

    def matches(self, risk: Risk, namespace: str) -> bool:
        """Return whether every criterion matches."""
        return (self.risks is None or risk in self.risks) and (
            self.namespaces is None or namespace in self.namespaces
        )


@dataclass(frozen=True, slots=True)
class Routed:
    """Where a message goes: its channels, None for every channel; and the people who are to decide."""

    channels: frozenset[str] | None
    approvers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Routes:
    """The routes of a policy file."""

    routes: Sequence[Route] = ()

    def find(self, risk: Risk, namespace: str, event: NotificationEvent) -> Routed:
        """Return where a message goes: to the channels of all routes that match and have its event.

        What no route matches goes to every channel: a gap in the routes must be noticed, and not a proposal missed.
        """
        matching = [route for route in self.routes if route.matches(risk, namespace)]
        if not matching:
            return Routed(None if event in DEFAULT_EVENTS else frozenset())
        having = [route for route in matching if event in route.events]
        channels: frozenset[str] = frozenset().union(*(route.channels for route in having))
        return Routed(channels, list(dict.fromkeys(name for route in having for name in route.approvers)))
