"""Structure that import rules cannot hold: where the outbox's table is named."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_STATEMENT = re.compile(r"\b(?:FROM|INTO|JOIN|TABLE|UPDATE)\s+outbox\b", re.IGNORECASE)
_OWN = ROOT / "libs/servicekit/src/servicekit/outbox"


def test_no_statement_outside_servicekit_outbox_names_its_table() -> None:
    sources = [
        path
        for folder in ("libs", "services")
        for path in (ROOT / folder).glob("*/src/**/*.py")
        if "migrations" not in path.parts
    ]
    naming = [path for path in sources if _STATEMENT.search(path.read_text(encoding="utf-8"))]
    assert _OWN / "queue.py" in naming
    assert [str(path.relative_to(ROOT)) for path in naming if _OWN not in path.parents] == []
