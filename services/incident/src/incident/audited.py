"""Which methods leave audit records, and what a request is about."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_SERVICE = "awoooi.incident.v1.IncidentService"
_READING = (
    "Get",
    "GetPostmortem",
    "List",
    "ListEvents",
    "ListSideEffects",
    "LookupIncidents",
    "SearchKnowledge",
    "Watch",
)
READING = frozenset(
    {
        *(f"{_SERVICE}/{name}" for name in _READING),
        "awoooi.flywheel.v1.FlywheelStatsService/GetFlywheelStats",
    }
)


def _incident(request: Any) -> Sequence[str]:
    return (request.incident_id,)


def _items(request: Any) -> Sequence[str]:
    return [item.incident_id for item in request.items]


def _none(_request: Any) -> Sequence[str]:
    return ()


TARGETS: Mapping[str, Callable[[Any], Sequence[str]]] = {
    f"{_SERVICE}/{name}": targets
    for name, targets in {
        "Create": _incident,
        "StartInvestigation": _incident,
        "Resolve": _incident,
        "BatchResolve": _items,
        "Reopen": _incident,
        "RemoveCanary": _incident,
        "AddEvent": _incident,
        "RetrySideEffect": _incident,
        "RetrySideEffects": _none,
        "DismissSideEffect": _incident,
    }.items()
}
