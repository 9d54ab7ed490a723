"""`incident-service import` as a process: concurrent imports, and the confirmation."""

import asyncio
import os
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.eventually import eventually
from tests.imports import (
    incident,
    write_lines,
)
from tests.incident.integration.importing.rows import counters, fetch


async def test_concurrent_imports_write_each_row_once(database: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "lines.jsonl", *(incident(number) for number in range(50)))
    waiting = """
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'incident-import' AND wait_event_type = 'Lock'
    """
    holder = await asyncpg.connect(database)
    try:
        # All have checked their lines before any writes.
        await holder.execute("BEGIN")
        await holder.execute("LOCK TABLE imported_rows IN SHARE MODE")
        imports = asyncio.gather(*(_import_process(database, path) for _ in range(3)))
        await eventually(lambda: fetch(database, waiting), lambda found: len(found) == 3)
        await holder.execute("ROLLBACK")
    finally:
        await holder.close()
    assert await imports == [0, 0, 0]
    assert await fetch(database, "SELECT count(*) FROM incidents") == [(50,)]
    assert await counters(database) == {("incidents_opened", "MEDIUM"): 50}


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        pytest.param("write\n", 1, id="write"),
        pytest.param("no\n", 0, id="no"),
        pytest.param("", 0, id="no answer"),
    ],
)
async def test_an_import_with_ask_writes_only_after_a_confirmation(
    database: str, tmp_path: Path, answer: str, written: int
) -> None:
    path = write_lines(tmp_path / "lines.jsonl", incident(1))
    assert await _import_process(database, path, "--ask", answer=answer) == 1 - written
    assert await fetch(database, "SELECT count(*) FROM incidents") == [(written,)]


async def _import_process(database: str, path: Path, *options: str, answer: str = "") -> int:
    """Run `python -m incident import` and return its exit code."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "incident", "import", *options, str(path)),
        env={**os.environ, "INCIDENT_DATABASE_URL": database},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    await process.communicate(answer.encode())
    assert process.returncode is not None
    return process.returncode
