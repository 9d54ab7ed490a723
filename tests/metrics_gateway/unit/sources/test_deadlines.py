import pytest

from metrics_gateway.sources.deadlines import Deadlines

DEADLINES = Deadlines(default=2.0, maximum=10.0, margin=0.5)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        pytest.param(None, 2.0, id="absent: the default"),
        pytest.param("", 2.0, id="empty: the default"),
        pytest.param("10", 9.5, id="Prometheus' own default, less the margin"),
        pytest.param("5.000000", 4.5, id="with decimals"),
        pytest.param(" 5 ", 4.5, id="with spaces"),
        pytest.param("15", 10.0, id="more than the maximum"),
        pytest.param("1e9", 10.0, id="huge"),
        pytest.param("9" * 300, 10.0, id="three hundred digits"),
        pytest.param("1", 0.5, id="short"),
        pytest.param("0.6", 0.3, id="little more than the margin: half of it"),
        pytest.param("0.2", 0.1, id="less than the margin: half of it"),
        pytest.param("1e-300", 0.05, id="tiny"),
        pytest.param("0", 2.0, id="zero"),
        pytest.param("-3", 2.0, id="negative"),
        pytest.param("nan", 2.0, id="not a number"),
        pytest.param("inf", 2.0, id="infinite"),
        pytest.param("-inf", 2.0, id="negative infinite"),
        pytest.param("1e999", 2.0, id="infinite by overflow"),
        pytest.param("soon", 2.0, id="a word"),
        pytest.param("5s", 2.0, id="with a unit"),
        pytest.param("5, 6", 2.0, id="a list"),
        pytest.param("\x005", 2.0, id="with a control character"),
    ],
)
def test_a_scrape_timeout_header_becomes_a_deadline(header: str | None, seconds: float) -> None:
    assert DEADLINES.for_scrape(header) == pytest.approx(seconds)


def test_the_default_is_capped_by_the_maximum() -> None:
    assert Deadlines(default=20.0, maximum=10.0, margin=0.5).for_scrape(None) == 10.0
