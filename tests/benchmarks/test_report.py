"""What a run writes: the table, the picture, and flame graphs."""

from xml.etree import ElementTree as ET

import pytest

from benchmarks.report.flames import flame_graph, time_by_package
from benchmarks.report.markdown import markdown
from benchmarks.report.picture import svg
from benchmarks.result import Goal, Result, Side

SVG = "{http://www.w3.org/2000/svg}"


def result(number: str, figure: float, goal: Goal, *, unmeasured: str = "") -> Result:
    return Result(
        number=number,
        what=f"what {number} <measures> & more",
        against="the other",
        goal=goal,
        limit=2.0,
        sides=[Side("this", "ms", [figure])],
        ratio_of=lambda sides: sides[0],
        unmeasured=unmeasured,
    )


RESULTS = [
    result("P1", 4.0, Goal.AT_LEAST),
    result("P2", 4.0, Goal.AT_MOST),
    result("P3", 4.0, Goal.AT_MOST, unmeasured="it is not there"),
    # Beyond the edge of the picture, on both sides.
    result("P4", 1e9, Goal.AT_LEAST),
    result("P5", 1e9, Goal.AT_MOST),
]


def test_the_picture_has_a_bar_for_each_ratio_on_the_side_of_its_goal_that_it_is_on() -> None:
    picture = ET.fromstring(svg(RESULTS))  # noqa: S314 - our own
    line = next(each for each in picture.iter(f"{SVG}line") if each.get("class") == "goal")
    goal, width = float(line.get("x1", "")), float(picture.get("viewBox", "").split()[2])
    bars = {
        tuple(sorted(side for side, there in sides.items() if there)): bar.get("class")
        for bar in picture.iter(f"{SVG}rect")
        for left in [float(bar.get("x", ""))]
        for right in [left + float(bar.get("width", ""))]
        for sides in [{"left": left < goal - 1, "right": right > goal + 1, "out": left < 0 or right > width}]
    }
    texts = "".join(picture.itertext())

    assert bars == {("right",): "reached", ("left",): "missed"}
    assert len(list(picture.iter(f"{SVG}rect"))) == 4
    assert all(name in texts for name in ("P1", "P2", "P4", "P5"))
    assert "P3" not in texts
    assert "prefers-color-scheme: dark" in texts


def test_the_report_says_what_was_missed_what_was_not_measured_and_what_limits() -> None:
    text = markdown(RESULTS, postgres_version="18", limits=["P2: all of it is grpc"], picture="RESULTS.svg")

    rows = {
        line.split(" | ")[0]: line
        for line in text.splitlines()
        if (line.startswith("| P") and "≥" in line) or "≤" in line
    }
    assert rows["| P1"].endswith("| ≥ 2.00 | reached |")
    assert rows["| P2"].endswith("| ≤ 2.00 | not reached |")
    assert rows["| P3"].endswith("| not measured | ≤ 2.00 | it is not there |")
    assert "(RESULTS.svg)" in text
    assert "- P2: all of it is grpc" in text


STACKS = {
    (
        "main (/x/site-packages/incident/__main__.py:9)",
        "run (/usr/lib/python3.11/asyncio/runners.py:190)",
    ): 60,
    ("main (/x/site-packages/incident/__main__.py:9)", "encode (/usr/lib/python3.11/json/encoder.py:7)"): 30,
    ("main (/x/site-packages/incident/__main__.py:9)",): 10,
}


def test_time_is_that_of_the_package_whose_code_runs() -> None:
    assert time_by_package(STACKS) == [
        ("the event loop and gRPC's core", 0.6),
        ("Python's encoder", 0.3),
        ("incident", 0.1),
    ]


def test_a_frame_of_a_flame_graph_is_as_wide_as_its_share_and_stands_on_its_caller() -> None:
    graph = ET.fromstring(flame_graph(STACKS, "P1: incident"))  # noqa: S314 - our own
    frames = {
        each.findtext(f"{SVG}title", "").split(" (")[0]: {
            name: float(rectangle.get(name, "")) for name in ("x", "y", "width")
        }
        for each in graph.iter(f"{SVG}g")
        for rectangle in each.iter(f"{SVG}rect")
    }
    width = frames["main"]["width"]

    assert frames["run"]["width"] == pytest.approx(0.6 * width)
    assert frames["encode"]["width"] == pytest.approx(0.3 * width)
    assert frames["run"]["y"] == frames["encode"]["y"] < frames["main"]["y"]
    assert frames["encode"]["x"] >= 0
