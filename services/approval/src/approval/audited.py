"""Which methods leave audit records, and what a request is about."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_SERVICE = "awoooi.approval.v1.ApprovalService"
READING = frozenset(
    {
        *(f"{_SERVICE}/{name}" for name in ("Get", "List", "ListDeliveries", "ListExecutions", "Watch")),
        "awoooi.flywheel.v1.FlywheelStatsService/GetFlywheelStats",
    }
)


def _approval(request: Any) -> Sequence[str]:
    return (request.approval_id,)


def _proposal(request: Any) -> Sequence[str]:
    return (request.incident_id, *([request.supersedes] if request.supersedes else []))


def _delivery(request: Any) -> Sequence[str]:
    return (request.delivery_id,)


def _none(_request: Any) -> Sequence[str]:
    return ()


TARGETS: Mapping[str, Callable[[Any], Sequence[str]]] = {
    f"{_SERVICE}/{name}": targets
    for name, targets in {
        "Propose": _proposal,
        "Approve": _approval,
        "Reject": _approval,
        "Cancel": _approval,
        "Execute": _approval,
        "RemoveCanary": _approval,
        "Reconcile": _none,
        "RetryDelivery": _delivery,
        "RetryDeliveries": _none,
        "DismissDelivery": _delivery,
    }.items()
}
