"""The view model of the page, from the readings of the sources: all texts formatted, no logic left for the template."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from awoooi.flywheel.v1.flywheel_stats_pb2 import ExecutionStats, IncidentStats
from metrics_gateway.page.charts import Chart, Column, grouped, stacked
from metrics_gateway.page.conditions import Level
from metrics_gateway.page.findings import Finding, find
from metrics_gateway.page.formatting import OTHER, OUTCOMES, clock, counted, duration
from metrics_gateway.page.lists import Listing, listings
from metrics_gateway.page.sections import Known, Unknown, failure_of, merge
from metrics_gateway.page.tiles import Tile, tiles
from metrics_gateway.sources.reading import Reading

# The note under "All is well": what that covers.
_WELL = "Every source responds, no incident is stuck, nothing is parked or late."


@dataclass(frozen=True, slots=True)
class Verdict:
    """The headline."""

    level: Level
    headline: str
    note: str
    # The worst finding, which is the headline; None when there is none.
    worst: Finding | None
    others: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source: up or down, since when, and its latest response."""

    name: str
    is_up: bool
    state: str
    since: str
    last_response: str


@dataclass(frozen=True, slots=True)
class ChartPanel:
    """A chart with its heading; without a chart when its stats are unknown."""

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
    charts: Sequence[ChartPanel]
    sources: Sequence[SourceRow]


def view(readings: Sequence[Reading], now: datetime) -> PageView:
    """Return the page at `now` by the gateway's clock, which also measures since when a source is up or down."""
    sections = merge(readings, now)
    return PageView(
        now=now,
        verdict=_verdict(find(readings, sections, now)),
        tiles=tiles(sections),
        listings=listings(sections),
        charts=[_incidents(sections.incidents), _executions(sections.executions)],
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
    is_up = reading.response is not None
    since = datetime.fromtimestamp(reading.since_timestamp, UTC)
    last = datetime.fromtimestamp(reading.last_success_timestamp, UTC)
    # The latest finished request can differ from this reading: then the state has only just changed.
    is_settled = reading.since_timestamp > 0 and is_up is (reading.failing is None)
    return SourceRow(
        name=reading.source,
        is_up=is_up,
        state=f"responded in {reading.duration_seconds * 1000:.0f} ms" if is_up else failure_of(reading),
        since=f"{clock(since, now)}, for {_between(since, now)}" if is_settled else "just now",
        last_response=f"{clock(last, now)}, {_between(last, now)} ago"
        if reading.last_success_timestamp
        else "none since the gateway started",
    )


def _between(earlier: datetime, later: datetime) -> str:
    return duration((later - earlier).total_seconds())


def _incidents(section: Known[IncidentStats] | Unknown) -> ChartPanel:
    anchor, heading = "incident-hours", "Incidents, last 24 h"
    if isinstance(section, Unknown):
        return ChartPanel(anchor, heading, None, section.reason)
    columns = [
        Column(hour.start_time.ToDatetime(tzinfo=UTC), (hour.opened, hour.resolved))
        for hour in section.stats.hours
    ]
    return ChartPanel(anchor, heading, grouped(("opened", "resolved"), columns))


def _executions(section: Known[ExecutionStats] | Unknown) -> ChartPanel:
    anchor, heading = "execution-hours", "Executions, last 24 h"
    if isinstance(section, Unknown):
        return ChartPanel(anchor, heading, None, section.reason)
    hours = section.stats.hours
    counts = [{int(entry.outcome): entry.count for entry in hour.executions} for hour in hours]
    # Outcomes that only a newer approval service knows are shown together, when there are any.
    is_other = any(found.keys() - OUTCOMES.keys() for found in counts)
    names = [*OUTCOMES.values(), *([OTHER] if is_other else [])]
    columns = []
    for hour, found in zip(hours, counts, strict=True):
        named = [found.pop(outcome, 0) for outcome in OUTCOMES]
        others = [sum(found.values())] if is_other else []
        columns.append(Column(hour.start_time.ToDatetime(tzinfo=UTC), [*named, *others]))
    return ChartPanel(anchor, heading, stacked(names, columns))
