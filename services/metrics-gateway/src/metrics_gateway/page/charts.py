"""Bar charts of the last hours, as coordinates in an SVG view box. The template draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

# The view box is stretched to the available space, so these are proportions and not pixels.
HEIGHT = 100.0
HOUR_WIDTH = 10.0
_GAP = 1.5
# So that a single event beside a flood stays visible.
_MIN_BAR = 2.0
_LABEL_EVERY_HOURS = 6
# Round numbers for the scale, and their multiples by powers of ten.
_ROUND = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100)


@dataclass(frozen=True, slots=True)
class Column:
    """One hour, and a number for each series of its chart."""

    start_time: datetime
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle of the series with this index."""

    series: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Hour:
    """A column with its position and its bars."""

    label: str
    x: float
    bars: Sequence[Bar]
    counts: Sequence[int]
    # Below the axis; empty for most hours.
    tick: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its scale and its texts."""

    names: Sequence[str]
    totals: Sequence[int]
    hours: Sequence[Hour]
    # The value at the upper edge; 0 when there is nothing to draw.
    top: int
    width: float


def grouped(names: Sequence[str], columns: Sequence[Column]) -> Chart:
    """Return a chart whose series stand side by side in each hour."""
    top = _round_up(max((max(column.counts) for column in columns), default=0))
    bar_width = (HOUR_WIDTH - _GAP) / len(names)

    def bars(column: Column, x: float) -> Sequence[Bar]:
        drawn = []
        for series, count in enumerate(column.counts):
            height = _height(count, top)
            if height:
                drawn.append(Bar(series, x + series * bar_width, HEIGHT - height, bar_width, height))
        return drawn

    return _chart(names, columns, top, [bars(column, _left(place)) for place, column in enumerate(columns)])


def stacked(names: Sequence[str], columns: Sequence[Column]) -> Chart:
    """Return a chart whose series stand on each other in each hour, the first at the bottom."""
    top = _round_up(max((sum(column.counts) for column in columns), default=0))

    def bars(column: Column, x: float) -> Sequence[Bar]:
        heights = [_height(count, top) for count in column.counts]
        # Bars raised to the minimum height must not push the stack out of the view box.
        fit = min(1.0, HEIGHT / sum(heights)) if any(heights) else 1.0
        drawn, y = [], HEIGHT
        for series, height in enumerate(heights):
            if height:
                y -= height * fit
                drawn.append(Bar(series, x, max(0.0, y), HOUR_WIDTH - _GAP, height * fit))
        return drawn

    return _chart(names, columns, top, [bars(column, _left(place)) for place, column in enumerate(columns)])


def _chart(names: Sequence[str], columns: Sequence[Column], top: int, bars: Sequence[Sequence[Bar]]) -> Chart:
    return Chart(
        names=names,
        totals=[sum(column.counts[series] for column in columns) for series in range(len(names))],
        hours=[
            Hour(
                label=f"{column.start_time:%H:%M}",
                x=_left(place),
                bars=bars[place],
                counts=column.counts,
                tick=f"{column.start_time:%H:%M}" if place % _LABEL_EVERY_HOURS == 0 else "",
            )
            for place, column in enumerate(columns)
        ],
        top=top,
        width=len(columns) * HOUR_WIDTH,
    )


def _left(place: int) -> float:
    return place * HOUR_WIDTH + _GAP / 2


def _height(count: int, top: int) -> float:
    return max(_MIN_BAR, HEIGHT * count / top) if count else 0.0


def _round_up(highest: int) -> int:
    """Return the next round number, for a readable scale."""
    if highest <= 0:
        return 0
    power = 1
    while _ROUND[-1] * power < highest:
        power *= 10
    return next(step * power for step in _ROUND if step * power >= highest)
