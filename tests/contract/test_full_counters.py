"""No statement raises a column without a bound: a counter that is full would fail its call."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# column = column + …, also qualified or cast. The bounded form is column = least(column, …) + 1.
_UNBOUNDED = re.compile(r"\b(\w+) = (?:\w+\.)?\1(?:::\w+)?\s*\+")
# A sum of seconds as a double: it has no end that can be reached.
_DOUBLES = {"resolution_seconds_sum"}


def test_every_counter_is_raised_to_its_maximum_at_most() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for folder in ("services", "libs")
        for path in sorted((ROOT / folder).rglob("src/**/*.py"))
        for match in _UNBOUNDED.finditer(path.read_text(encoding="utf-8"))
        if match[1] not in _DOUBLES
    ]
    assert not found
