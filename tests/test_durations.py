"""The summary of a run names the files that took longest."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tests.durations import slowest_files


def report(nodeid: str, seconds: float) -> pytest.TestReport:
    return pytest.TestReport(nodeid, (nodeid, 0, nodeid), {}, "passed", None, "call", duration=seconds)


def test_the_files_come_longest_first_with_all_their_tests() -> None:
    reports: dict[str, Sequence[Any]] = {
        "passed": [
            report("tests/a.py::one", 4.0),
            report("tests/b.py::one", 9.0),
            report("tests/c.py::one", 1.0),
        ],
        "failed": [report("tests/a.py::two", 6.0)],
        "warnings": [SimpleNamespace()],
    }
    assert slowest_files(reports) == [(10.0, "tests/a.py"), (9.0, "tests/b.py")]
