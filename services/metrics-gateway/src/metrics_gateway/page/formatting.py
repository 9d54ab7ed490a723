"""Formats numbers, times and states for people."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from awoooi.approval.v1.approval_pb2 import Delivery, Risk
from awoooi.flywheel.v1.flywheel_stats_pb2 import ExecutionOutcome, StuckReason
from awoooi.incident.v1.incident_pb2 import Severity, SideEffect
from metrics_gateway.sources.reading import Reason

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_NO_BREAK = "\N{NO-BREAK SPACE}"
# From this many hours or days on, the smaller unit is omitted.
_PRECISE_BELOW = 10
_MAX_TEXT = 200

# For enum numbers that are not in the tables below: a newer source may send others.
OTHER: Final = "other"
SEVERITIES: Final[Mapping[int, str]] = {
    Severity.SEVERITY_CRITICAL: "P1 critical",
    Severity.SEVERITY_HIGH: "P2 high",
    Severity.SEVERITY_MEDIUM: "P3 medium",
    Severity.SEVERITY_LOW: "P4 low",
    Severity.SEVERITY_INFO: "P5 info",
}
STUCK_REASONS: Final[Mapping[int, str]] = {
    StuckReason.STUCK_REASON_NO_APPROVAL: "no proposed action",
    StuckReason.STUCK_REASON_APPROVAL_PENDING: "approval pending",
    StuckReason.STUCK_REASON_APPROVED_NOT_EXECUTED: "approved, not executed",
    StuckReason.STUCK_REASON_EXECUTION_FAILED: "execution failed",
    StuckReason.STUCK_REASON_EXECUTED_NOT_RESOLVED: "executed, not resolved",
    StuckReason.STUCK_REASON_NO_PROGRESS: "reason not known",
    StuckReason.STUCK_REASON_NOT_RECOVERED: "executed, not recovered",
}
RISKS: Final[Mapping[int, str]] = {
    Risk.RISK_LOW: "low risk",
    Risk.RISK_MEDIUM: "medium risk",
    Risk.RISK_HIGH: "high risk",
    Risk.RISK_CRITICAL: "critical risk",
}
OUTCOMES: Final[Mapping[int, str]] = {
    ExecutionOutcome.EXECUTION_OUTCOME_SUCCEEDED: "succeeded",
    ExecutionOutcome.EXECUTION_OUTCOME_NOOP: "only observed",
    ExecutionOutcome.EXECUTION_OUTCOME_FAILED: "failed",
    ExecutionOutcome.EXECUTION_OUTCOME_INDETERMINATE: "indeterminate",
}
EFFECTS: Final[Mapping[int, str]] = {
    SideEffect.EFFECT_POSTMORTEM: "postmortem",
    SideEffect.EFFECT_KNOWLEDGE: "knowledge",
    SideEffect.EFFECT_DISPOSITION: "disposition",
    SideEffect.EFFECT_NOTIFICATION: "notification",
    SideEffect.EFFECT_WEBHOOK: "webhook",
}
# One and several. A service before topics lists resolves only.
TOPICS: Final[Mapping[int, tuple[str, str]]] = {
    Delivery.TOPIC_UNSPECIFIED: ("resolve", "resolves"),
    Delivery.TOPIC_RESOLVE: ("resolve", "resolves"),
    Delivery.TOPIC_TIMELINE: ("timeline entry", "timeline entries"),
    Delivery.TOPIC_EXECUTION: ("execution", "executions"),
    Delivery.TOPIC_NOTIFICATION: ("notification", "notifications"),
}
OTHER_TOPIC: Final = ("job of another version", "jobs of another version")
DELIVERY_STATES: Final[Mapping[int, str]] = {
    Delivery.STATE_PENDING: "waiting",
    Delivery.STATE_PARKED: "parked",
}
SIDE_EFFECT_STATES: Final[Mapping[int, str]] = {
    SideEffect.STATE_PENDING: "waiting",
    SideEffect.STATE_PARKED: "parked",
}
_FAILURES: Final[Mapping[Reason, str]] = {
    Reason.UNAVAILABLE: "does not respond",
    Reason.DEADLINE: "does not respond in time",
    Reason.INVALID_RESPONSE: "returns an invalid response",
    Reason.UNIMPLEMENTED: "has no stats",
    Reason.PERMISSION: "denies this gateway access",
    Reason.INTERNAL: "fails",
    Reason.OTHER: "fails",
}


def name_of(names: Mapping[int, str], number: int) -> str:
    """Return the name of an enum number; `other` for one that this gateway does not know."""
    return names.get(number, OTHER)


def failure(reason: Reason) -> str:
    """Return the predicate of a sentence about a source that fails for `reason`."""
    return _FAILURES[reason]


def duration(seconds: float) -> str:
    """Return a duration in one or two units, such as `2 h 5 min` or `14 h`; `0 s` for a negative one.

    A number and its unit stay on one line.
    """
    whole = max(0, int(seconds))
    for unit, name, smaller, smaller_name in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min")):
        if whole >= unit:
            number, rest = whole // unit, whole % unit // smaller
            larger = f"{count(number)}{_NO_BREAK}{name}"
            return f"{larger} {rest}{_NO_BREAK}{smaller_name}" if rest and number < _PRECISE_BELOW else larger
    return f"{whole // _MINUTE}{_NO_BREAK}min" if whole >= _MINUTE else f"{whole}{_NO_BREAK}s"


def clock(time: datetime, now: datetime) -> str:
    """Return a time in UTC, with its date unless that is the date of `now`."""
    shown = time.astimezone(UTC)
    return f"{shown:%H:%M:%S} UTC" if shown.date() == now.date() else f"{shown:%Y-%m-%d %H:%M:%S} UTC"


def count(number: int) -> str:
    """Return a number with thousands separators."""
    return f"{number:,}"


def counted(number: int, one: str, many: str) -> str:
    """Return a number and what it counts, such as `1 incident`."""
    return f"{count(number)} {one if number == 1 else many}"


def line(text: str) -> str:
    """Return a caller's text on one line, truncated with an ellipsis."""
    joined = " ".join(text.split())
    return joined if len(joined) <= _MAX_TEXT else f"{joined[: _MAX_TEXT - 1]}…"
