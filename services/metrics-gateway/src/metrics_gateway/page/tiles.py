"""The figures at the top of the page: one number each, and what it means."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from awoooi.approval.v1.approval_pb2 import Approval
from awoooi.flywheel.v1.flywheel_stats_pb2 import (
    ApprovalStats,
    DeliveryStats,
    ExecutionStats,
    IncidentStats,
    SideEffectStats,
)
from metrics_gateway.page.findings import (
    LOWEST_RATE,
    OLDEST_APPROVAL_SECONDS,
    OLDEST_DELIVERY_SECONDS,
    OLDEST_SIDE_EFFECT_SECONDS,
    Level,
    lost_resolves,
    open_deliveries,
    open_side_effects,
    rate_is_missing,
)
from metrics_gateway.page.formatting import count, counted, duration
from metrics_gateway.page.sections import Known, Sections, Unknown

M = TypeVar("M", bound=Message)

_HOUR = 3_600


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure."""

    label: str
    # What is read first; `unknown` is never a number.
    value: str
    note: str
    # Where the page tells more; empty when it does not.
    anchor: str = ""
    level: Level = Level.WELL
    is_known: bool = True


def tiles(sections: Sections) -> Sequence[Tile]:
    """Return the figures in the order in which they are shown."""
    return [
        _tile("Success rate", sections.executions, _success_rate),
        _tile("Stuck incidents", sections.incidents, _stuck),
        _tile("Pending approvals", sections.approvals, _pending),
        _tile("Resolves to deliver", sections.deliveries, _deliveries),
        _tile("Side effects to run", sections.side_effects, _side_effects),
        _tile(
            "NO_ACTION resolved",
            sections.executions,
            lambda label, stats: _noop(label, stats, lost=lost_resolves(sections)),
        ),
    ]


def _tile(label: str, section: Known[M] | Unknown, figure: Callable[[str, M], Tile]) -> Tile:
    if isinstance(section, Unknown):
        return Tile(label, "unknown", section.reason, is_known=False)
    return figure(label, section.stats)


def _success_rate(label: str, stats: ExecutionStats) -> Tile:
    of = f"of {counted(stats.samples, 'repair', 'repairs')} in {_window(stats)}"
    if rate_is_missing(stats):
        return Tile(label, "missing", f"although there are {of[3:]}", level=Level.WRONG)
    if not stats.HasField("success_rate"):
        needed = counted(stats.min_samples, "repair", "repairs")
        return Tile(
            label, "withheld", f"{count(stats.samples)} of {needed} that it needs in {_window(stats)}"
        )
    level = Level.WRONG if stats.success_rate < LOWEST_RATE else Level.WELL
    # Rounded down: 99.6 % is not everything.
    return Tile(
        label, f"{int(stats.success_rate * 100 + 1e-9)} %", f"{count(stats.successes)} {of}", level=level
    )


def _stuck(label: str, stats: IncidentStats) -> Tile:
    unresolved = sum(entry.count for entry in stats.incidents)
    note = f"of {count(unresolved)} unresolved" if unresolved else "every incident is resolved"
    if stats.stuck and stats.HasField("stuck_after"):
        note += f"; no progress for {duration(stats.stuck_after.ToTimedelta().total_seconds())}"
    return Tile(label, count(stats.stuck), note, "stuck", Level.WRONG if stats.stuck else Level.WELL)


def _pending(label: str, stats: ApprovalStats) -> Tile:
    pending = sum(entry.count for entry in stats.approvals if entry.state == Approval.STATE_PENDING)
    oldest = stats.oldest_pending_seconds
    note = f"oldest waits for {duration(oldest)}" if pending else "nobody waits for a decision"
    level = Level.WATCH if oldest > OLDEST_APPROVAL_SECONDS else Level.WELL
    return Tile(label, count(pending), note, "approvals", level)


def _deliveries(label: str, stats: DeliveryStats) -> Tile:
    is_old = stats.oldest_pending_seconds > OLDEST_DELIVERY_SECONDS
    return _open(label, "deliveries", open_deliveries(stats), stats.oldest_pending_seconds, is_old=is_old)


def _side_effects(label: str, stats: SideEffectStats) -> Tile:
    is_old = stats.oldest_pending_seconds > OLDEST_SIDE_EFFECT_SECONDS
    return _open(label, "side-effects", open_side_effects(stats), stats.oldest_pending_seconds, is_old=is_old)


def _open(
    label: str, anchor: str, waiting_and_parked: tuple[int, int], oldest: float, *, is_old: bool
) -> Tile:
    waiting, parked = waiting_and_parked
    notes = [f"{count(parked)} parked"] if parked else []
    if waiting:
        notes.append(f"{count(waiting)} waiting, the oldest for {duration(oldest)}")
    level = Level.WRONG if parked or is_old else Level.WELL
    return Tile(
        label, count(waiting + parked), "; ".join(notes) or "none waits, none is parked", anchor, level
    )


def _noop(label: str, stats: ExecutionStats, *, lost: int) -> Tile:
    executed, resolved = stats.noop_executions_total, stats.noop_resolutions_total
    missing = executed - resolved
    note = f"of {count(executed)} executed" + (f"; {count(missing)} not yet" if missing > 0 else ", each one")
    return Tile(
        label,
        count(resolved),
        note if executed else "none was executed yet",
        level=Level.WRONG if lost else Level.WELL,
    )


def _window(stats: ExecutionStats) -> str:
    if not stats.HasField("window"):
        return "24 h"
    seconds = stats.window.ToTimedelta().total_seconds()
    return f"{count(round(seconds / _HOUR))} h" if seconds >= _HOUR else duration(seconds)
