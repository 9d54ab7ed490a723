"""The commands of docs/scaling.md, run as they are written, and its tables."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")


def tables(text: str) -> list[tuple[str, set[str]]]:
    """Each table's first line, and the first columns of its rows."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    return [
        (block.splitlines()[0], {line.split("|")[1].strip() for line in block.splitlines()[2:]})
        for block in blocks
    ]


@pytest.mark.slow
def test_the_measurement_prints_the_tables_of_the_document(tmp_path: Path) -> None:
    commands = [
        shlex.split(line)
        for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
        for line in block.splitlines()
    ]
    assert [command[:3] for command in commands] == [["python", "-m", "benchmarks.cost"]]
    command = [sys.executable, *commands[0][1:-1], "30", f"--data-dir={tmp_path / 'data'}"]

    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    measured, documented = tables(ran.stdout), tables(TEXT)
    for (header, rows), (documented_header, documented_rows) in zip(measured, documented, strict=False):
        assert header == documented_header
        # Of few incidents some tables have no page of their own.
        assert rows <= documented_rows
    assert re.search(r"Of a stored incident, resolved once, with all its rows: [\d,]+ bytes", ran.stdout)
    assert not (tmp_path / "data").exists()
