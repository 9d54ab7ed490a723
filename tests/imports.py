"""Lines for an import, and imports run in this process or as a user runs them."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from servicekit.database.migrations import Migrations
from servicekit.importing.importer import ImportRequest, LineImporter, run_import

LONG_AGO = datetime(2025, 5, 7, 10, tzinfo=UTC)
_SETTINGS = ("INCIDENT_", "APPROVAL_", "GATEWAY_", "FLYWHEEL_DATA_DIR", "FAILPOINTS")


def at(seconds: float) -> str:
    """A time so many seconds after the lines' beginning."""
    return (LONG_AGO + timedelta(seconds=seconds)).isoformat()


def incident_id(number: int) -> str:
    """The id of the incident of this number."""
    return f"INC-20250507-{number:06X}"


def approval_id(number: int) -> str:
    """The id of the approval of this number."""
    return f"APR-20250507-{number:06X}"


def incident(number: int = 1, **fields: Any) -> dict[str, Any]:
    """The line of an incident that is INVESTIGATING; a field that is ... is omitted."""
    return _without_gaps(
        {
            "kind": "incident",
            "incident_id": incident_id(number),
            "title": f"pod api-{number} answers slowly",
            "severity": "MEDIUM",
            "state": "INVESTIGATING",
            "fingerprint": f"api-latency-{number}",
            "create_time": at(30 * number),
            "investigate_time": at(30 * number + 1),
        }
        | fields
    )


def resolved_incident(number: int = 1, **fields: Any) -> dict[str, Any]:
    """The line of an incident that was resolved ten minutes after it was opened."""
    resolved = {
        "state": "RESOLVED",
        "resolve_time": at(30 * number + 600),
        "resolution_type": "HUMAN",
        "resolved_by": "bob",
        "resolution_note": "restarted it",
    }
    return incident(number, **(resolved | fields))


def approval(number: int = 1, **fields: Any) -> dict[str, Any]:
    """The line of a NO_ACTION that was executed and not acknowledged; a field that is ... is omitted."""
    return _without_gaps(
        {
            "kind": "approval",
            "approval_id": approval_id(number),
            "incident_id": incident_id(number),
            "action": "NO_ACTION: observe first",
            "risk": "LOW",
            "state": "SUCCEEDED",
            "proposed_by": "ai",
            "decisions": [{"actor": "alice", "kind": "APPROVE", "reason": "harmless"}],
            "create_time": at(30 * number + 2),
            "decide_time": at(30 * number + 5),
            "finish_time": at(30 * number + 6),
        }
        | fields
    )


def pending_approval(number: int = 1, **fields: Any) -> dict[str, Any]:
    """The line of a pending approval."""
    waiting = {"state": "PENDING", "decisions": ..., "decide_time": ..., "finish_time": ...}
    return approval(number, **(waiting | fields))


def _without_gaps(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if value is not ...}


def write_lines(path: Path, *lines: Mapping[str, Any] | bytes) -> Path:
    """Write a file, a line for each; bytes as they are."""
    path.write_bytes(
        b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines)
    )
    return path


@dataclass(frozen=True)
class Imported:
    """The result of an import in this process."""

    succeeded: bool
    # Of each bad line: its number, its field, and why.
    problems: Sequence[tuple[int, str, str]]
    counts: Mapping[str, int]


async def imported(
    capsys: pytest.CaptureFixture[str],
    make_importer: Callable[[Sequence[str]], LineImporter],
    package: str,
    url: str,
    *files: Path,
) -> Imported:
    """Import files into a service's database."""
    capsys.readouterr()
    succeeded = await run_import(
        ImportRequest(files, migrate=False, ask=False),
        make_importer,
        url=url,
        application_name="tests-import",
        migrations=Migrations(f"{package}:migrations"),
    )
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    problems = [
        (each["line"], each["field"], each["reason"]) for each in events if each["event"] == "problem"
    ]
    (counts,) = [each for each in events if each.pop("event") == "done"] or [{}]
    return Imported(succeeded, problems, counts)


async def flywheel_import(
    *files: Path | str, variables: Mapping[str, str], options: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run `flywheel import` with these settings and no others, in the folder of the first file."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
    first = Path(files[0])
    return await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "flywheel", "import", *options),
            *(Path(each).name if Path(each).parent == first.parent else str(each) for each in files),
        ],
        cwd=first.parent,
        env=inherited | dict(variables),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
