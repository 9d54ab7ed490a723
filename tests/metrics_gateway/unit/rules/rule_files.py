"""Rule files, and `metrics-gateway check-rules` over them."""

import json
from pathlib import Path

import pytest

from metrics_gateway.__main__ import run


def rule_file(path: Path, *rules: str) -> Path:
    """A rule file; the expression of rule n, from 0, is on line 4 + 2n."""
    text = "groups:\n  - name: mine\n    rules:\n"
    for number, rule in enumerate(rules):
        kind, _, expression = rule.rpartition(" <- ")
        text += f"      - {{{kind or f'alert: A{number}'}, expr: {json.dumps(expression)}}}\n\n"
    path.write_text(text, encoding="utf-8")
    return path


def checked(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[str], str]:
    """Exit code, lines on standard output, standard error."""
    code = run(["check-rules", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err
