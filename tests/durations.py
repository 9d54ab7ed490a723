"""Where the time of a run went, by file: a file is what one worker runs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

_MAX_FILES = 15
_MIN_SECONDS = 5.0


def slowest_files(reports: Mapping[str, Sequence[Any]]) -> Sequence[tuple[float, str]]:
    """Return the files whose tests, with their fixtures, took longest: seconds and path, the longest first."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for report in (each for reports_of_outcome in reports.values() for each in reports_of_outcome):
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid.partition("::")[0]] += report.duration
    longest_first = sorted(((taken, file) for file, taken in seconds.items()), reverse=True)
    return [each for each in longest_first[:_MAX_FILES] if each[0] >= _MIN_SECONDS]
