from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_gateway.page.charts import HEIGHT, Chart, Column, grouped, stacked

START = datetime(2026, 5, 6, 4, tzinfo=UTC)

Kind = Callable[[Sequence[str], Sequence[Column]], Chart]

KINDS = [pytest.param(grouped, id="grouped"), pytest.param(stacked, id="stacked")]


def columns(*counts: Sequence[int]) -> list[Column]:
    return [Column(START + timedelta(hours=hour), each) for hour, each in enumerate(counts)]


def heights(chart: Chart) -> list[list[float]]:
    return [[round(bar.height, 2) for bar in hour.bars] for hour in chart.hours]


def test_grouped_bars_are_proportional_to_their_counts() -> None:
    chart = grouped(("opened", "resolved"), columns((5, 10), (0, 1)))
    assert chart.top == 10
    assert heights(chart) == [[50, 100], [10]]
    assert [bar.series for hour in chart.hours for bar in hour.bars] == [0, 1, 1]
    # Adjacent.
    first, second = chart.hours[0].bars
    assert first.x + first.width == second.x


def test_stacked_bars_add_up() -> None:
    chart = stacked(("succeeded", "failed"), columns((6, 2), (0, 4)))
    assert chart.top == 8
    assert heights(chart) == [[75, 25], [50]]
    below, above = chart.hours[0].bars
    assert below.y + below.height == HEIGHT
    assert above.y + above.height == below.y


@pytest.mark.parametrize("kind", KINDS)
def test_totals_labels_and_ticks(kind: Kind) -> None:
    chart = kind(("a", "b"), columns(*[(hour, 1) for hour in range(24)]))
    assert chart.totals == [276, 24]
    assert chart.hours[0].label == "04:00"
    assert [hour.tick for hour in chart.hours if hour.tick] == ["04:00", "10:00", "16:00", "22:00"]
    assert chart.width == 240


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("found", [[], columns((0, 0), (0, 0))], ids=["no hours", "nothing in any hour"])
def test_a_chart_without_counts_has_no_bars(kind: Kind, found: Sequence[Column]) -> None:
    chart = kind(("a", "b"), found)
    assert chart.top == 0
    assert [bar for hour in chart.hours for bar in hour.bars] == []


@pytest.mark.parametrize(
    ("highest", "top"),
    [(1, 1), (2, 2), (7, 8), (9, 10), (11, 12), (13, 15), (118, 120), (121, 150), (566, 600), (1_001, 1_200)],
)
def test_the_scale_ends_at_a_round_number(highest: int, top: int) -> None:
    assert grouped(("a",), columns((highest,))).top == top


def test_a_small_count_beside_a_large_one_stays_visible() -> None:
    chart = grouped(("opened", "resolved"), columns((100_000, 1)))
    assert min(bar.height for bar in chart.hours[0].bars) >= 2


@settings(deadline=None)
@pytest.mark.parametrize("kind", KINDS)
@given(counts=st.lists(st.tuples(*[st.integers(0, 2**63 - 1) | st.integers(0, 3)] * 4), max_size=30))
def test_every_bar_is_within_the_view_box(kind: Kind, counts: list[tuple[int, ...]]) -> None:
    chart = kind("abcd", columns(*counts))
    for hour in chart.hours:
        for bar in hour.bars:
            assert 0 <= bar.x < bar.x + bar.width <= chart.width
            assert -0.001 <= bar.y < bar.y + bar.height <= HEIGHT + 0.001
