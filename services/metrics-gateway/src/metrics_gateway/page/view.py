"""What the page shows, from the readings of the sources: everything worded, nothing left to decide for the template."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from awoooi.flywheel.v1.flywheel_stats_pb2 import ExecutionStats, IncidentStats
from metrics_gateway.page.charts import Chart, Column, grouped, stacked
from metrics_gateway.page.findings import Finding, Level, find
from metrics_gateway.page.formatting import OTHER, OUTCOMES, clock, counted, duration
from metrics_gateway.page.lists import Listing, listings
from metrics_gateway.page.sections import Known, Unknown, merge, what_it_does
from metrics_gateway.page.tiles import Tile, tiles
from metrics_gateway.sources.source import Reading

# Under the findings, so that "all is well" also says what that covers.
_WELL = "Every source answers, no incident is stuck, nothing is parked or late."


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one thing that is seen first."""

    level: Level
    headline: str
    note: str
    # The worst, which is the headline; None when nothing is wrong.
    worst: Finding | None
    others: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source: up or down, since when, and how it answered."""

    name: str
    is_up: bool
    state: str
    since: str
    last_answer: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its heading; without a chart when its figures are unknown."""

    anchor: str
    heading: str
    chart: Chart | None
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class PageView:
    """Everything on the page."""

    now: datetime
    verdict: Verdict
    tiles: Sequence[Tile]
    listings: Sequence[Listing]
    figures: Sequence[Figure]
    sources: Sequence[SourceRow]


def view(readings: Sequence[Reading], now: datetime) -> PageView:
    """Return what the page shows at `now`, the gateway's own clock, which says since when a source is up or down."""
    sections = merge(readings, now)
    return PageView(
        now=now,
        verdict=_verdict(find(readings, sections, now)),
        tiles=tiles(sections),
        listings=listings(sections),
        figures=[_incidents(sections.incidents), _executions(sections.executions)],
        sources=[_source(reading, now) for reading in readings],
    )


def _verdict(findings: Sequence[Finding]) -> Verdict:
    if not findings:
        return Verdict(Level.WELL, "All is well", _WELL, None, ())
    worst, *others = findings
    wrong = sum(finding.level is Level.WRONG for finding in others)
    parts = [
        counted(wrong, "more thing is wrong", "more things are wrong") if wrong else "",
        counted(len(others) - wrong, "thing to look at", "things to look at") if len(others) > wrong else "",
    ]
    return Verdict(worst.level, worst.text, ", ".join(filter(None, parts)), worst, others)


def _source(reading: Reading, now: datetime) -> SourceRow:
    is_up = reading.answer is not None
    since = datetime.fromtimestamp(reading.since_timestamp, UTC)
    last = datetime.fromtimestamp(reading.last_success_timestamp, UTC)
    # The latest request that ended can tell another story than this reading: then it has only just changed.
    is_settled = reading.since_timestamp > 0 and is_up is (reading.failing is None)
    return SourceRow(
        name=reading.source,
        is_up=is_up,
        state=f"answered in {reading.duration_seconds * 1000:.0f} ms" if is_up else what_it_does(reading),
        since=f"{clock(since, now)}, for {_between(since, now)}" if is_settled else "just now",
        last_answer=f"{clock(last, now)}, {_between(last, now)} ago"
        if reading.last_success_timestamp
        else "none since the gateway started",
    )


def _between(earlier: datetime, later: datetime) -> str:
    return duration((later - earlier).total_seconds())


def _incidents(section: Known[IncidentStats] | Unknown) -> Figure:
    anchor, heading = "incident-hours", "Incidents, last 24 h"
    if isinstance(section, Unknown):
        return Figure(anchor, heading, None, section.reason)
    columns = [
        Column(hour.start_time.ToDatetime(tzinfo=UTC), (hour.opened, hour.resolved))
        for hour in section.stats.hours
    ]
    return Figure(anchor, heading, grouped(("opened", "resolved"), columns))


def _executions(section: Known[ExecutionStats] | Unknown) -> Figure:
    anchor, heading = "execution-hours", "Executions, last 24 h"
    if isinstance(section, Unknown):
        return Figure(anchor, heading, None, section.reason)
    hours = section.stats.hours
    counts = [{int(entry.outcome): entry.count for entry in hour.executions} for hour in hours]
    # Outcomes of a newer approval service are shown together, when there are any.
    is_other = any(found.keys() - OUTCOMES.keys() for found in counts)
    names = [*OUTCOMES.values(), *([OTHER] if is_other else [])]
    columns = []
    for hour, found in zip(hours, counts, strict=True):
        named = [found.pop(outcome, 0) for outcome in OUTCOMES]
        others = [sum(found.values())] if is_other else []
        columns.append(Column(hour.start_time.ToDatetime(tzinfo=UTC), [*named, *others]))
    return Figure(anchor, heading, stacked(names, columns))
