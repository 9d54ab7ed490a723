"""The tiles at the top of the page: one key number each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from awoooi.approval.v1.approval_pb2 import Approval
from awoooi.flywheel.v1.flywheel_stats_pb2 import (
    ApprovalStats,
    DeliveryStats,
    ExecutionStats,
    IncidentStats,
    RecoveryStats,
    SideEffectStats,
)
from metrics_gateway.page.conditions import (
    Level,
    approval_is_old,
    delivery_is_old,
    lost_resolves,
    not_recovered,
    oldest_by_topic,
    oldest_of_every_topic,
    open_of_every_topic,
    open_side_effects,
    rate_is_low,
    rate_is_missing,
    recovery_is_overdue,
    side_effect_is_old,
)
from metrics_gateway.page.formatting import count, counted, duration
from metrics_gateway.page.sections import Known, M, Sections, Unknown

_HOUR = 3_600


@dataclass(frozen=True, slots=True)
class Tile:
    """One key number."""

    label: str
    # The number, or a word in its place, such as `unknown`.
    value: str
    note: str
    # The id of the page's element with the details; empty when there is none.
    anchor: str = ""
    level: Level = Level.WELL
    is_known: bool = True


def tiles(sections: Sections) -> Sequence[Tile]:
    """Return the tiles in the order of the page."""
    return [
        _tile("Success rate", sections.executions, _success_rate),
        _tile("Recovery rate", sections.recoveries, _recovery_rate),
        _tile("Stuck incidents", sections.incidents, _stuck),
        _tile("Pending approvals", sections.approvals, _pending),
        _tile("Deliveries", sections.deliveries, _deliveries),
        _tile("Side effects to run", sections.side_effects, _side_effects),
        _tile(
            "NO_ACTION resolved",
            sections.executions,
            lambda label, stats: _noop(label, stats, lost=lost_resolves(sections)),
        ),
    ]


def _tile(label: str, section: Known[M] | Unknown, make: Callable[[str, M], Tile]) -> Tile:
    if isinstance(section, Unknown):
        return Tile(label, "unknown", section.reason, is_known=False)
    return make(label, section.stats)


def _success_rate(label: str, stats: ExecutionStats) -> Tile:
    of = f"of {counted(stats.samples, 'repair', 'repairs')} in {_window(stats)}"
    if rate_is_missing(stats):
        return Tile(label, "missing", f"although there are {of[3:]}", level=Level.WRONG)
    if not stats.HasField("success_rate"):
        required = counted(stats.min_samples, "repair", "repairs")
        return Tile(label, "withheld", f"{count(stats.samples)} of {required} required in {_window(stats)}")
    level = Level.WRONG if rate_is_low(stats) else Level.WELL
    # Rounded down: 99.6 % is not all.
    return Tile(
        label, f"{int(stats.success_rate * 100 + 1e-9)} %", f"{count(stats.successes)} {of}", level=level
    )


def _recovery_rate(label: str, stats: RecoveryStats) -> Tile:
    level = Level.WELL
    if recovery_is_overdue(stats):
        level = Level.WRONG
    elif not_recovered(stats):
        level = Level.WATCH
    pending = f"; {count(stats.pending)} not known yet" if stats.pending else ""
    if not stats.samples and not stats.pending:
        return Tile(label, "none", f"no repair was verified in {_window(stats)}", level=level)
    of = f"of {counted(stats.samples, 'repair', 'repairs')} helped in {_window(stats)}"
    if not stats.HasField("recovery_rate"):
        note = f"{count(stats.verified)} {of}, {count(stats.min_samples)} required{pending}"
        return Tile(label, "withheld", note, level=level)
    rate = int(stats.recovery_rate * 100 + 1e-9)
    return Tile(label, f"{rate} %", f"{count(stats.verified)} {of}{pending}", level=level)


def _stuck(label: str, stats: IncidentStats) -> Tile:
    unresolved = sum(entry.count for entry in stats.incidents)
    note = f"of {count(unresolved)} unresolved" if unresolved else "every incident is resolved"
    if stats.stuck and stats.HasField("stuck_after"):
        note += f"; no progress for {duration(stats.stuck_after.ToTimedelta().total_seconds())}"
    return Tile(label, count(stats.stuck), note, "stuck", Level.WRONG if stats.stuck else Level.WELL)


def _pending(label: str, stats: ApprovalStats) -> Tile:
    pending = sum(entry.count for entry in stats.approvals if entry.state == Approval.STATE_PENDING)
    note = f"oldest waits for {duration(stats.oldest_pending_seconds)}" if pending else "none pending"
    level = Level.WATCH if approval_is_old(stats) else Level.WELL
    return Tile(label, count(pending), note, "approvals", level)


def _deliveries(label: str, stats: DeliveryStats) -> Tile:
    return _open(
        label,
        "deliveries",
        open_of_every_topic(stats),
        oldest_of_every_topic(stats),
        is_old=delivery_is_old(stats) or bool(oldest_by_topic(stats)),
    )


def _side_effects(label: str, stats: SideEffectStats) -> Tile:
    return _open(
        label,
        "side-effects",
        open_side_effects(stats),
        stats.oldest_pending_seconds,
        is_old=side_effect_is_old(stats),
    )


def _open(
    label: str, anchor: str, pending_and_parked: tuple[int, int], oldest: float, *, is_old: bool
) -> Tile:
    pending, parked = pending_and_parked
    notes = [f"{count(parked)} parked"] if parked else []
    if pending:
        notes.append(f"{count(pending)} waiting, the oldest for {duration(oldest)}")
    level = Level.WRONG if parked or is_old else Level.WELL
    return Tile(
        label, count(pending + parked), "; ".join(notes) or "none waiting, none parked", anchor, level
    )


def _noop(label: str, stats: ExecutionStats, *, lost: int) -> Tile:
    executed, resolved = stats.noop_executions_total, stats.noop_resolutions_total
    missing = executed - resolved
    note = f"of {count(executed)} executed" + (f"; {count(missing)} not yet" if missing > 0 else ", each one")
    return Tile(
        label,
        count(resolved),
        note if executed else "none executed yet",
        level=Level.WRONG if lost else Level.WELL,
    )


def _window(stats: ExecutionStats | RecoveryStats) -> str:
    if not stats.HasField("window"):
        return "24 h"
    seconds = stats.window.ToTimedelta().total_seconds()
    return f"{count(round(seconds / _HOUR))} h" if seconds >= _HOUR else duration(seconds)
