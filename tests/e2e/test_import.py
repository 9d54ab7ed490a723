"""`flywheel import` as an operator meets it: 566 stuck incidents of an older system, and their healing."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from approval.model import State
from awoooi.flywheel.v1 import flywheel_stats_pb2
from tests.approval.schemas import approval_database, contents, incident_database, rows
from tests.callers import Approvals, Incidents, approvals_at, incidents_at
from tests.e2e.once import Noops, assert_resolved_once, noops_counted, resolutions_counted
from tests.eventually import eventually
from tests.imports import (
    approval,
    at,
    flywheel_import,
    incident,
    incident_id,
    resolved_incident,
    write_lines,
)
from tests.services import healthy_service

STUCK = 566
RECONCILE = "awoooi.approval.v1.ApprovalService/Reconcile"


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """What the older system left: all were executed as NO_ACTION, none was acknowledged."""
    lines = [line for number in range(STUCK) for line in (incident(number), approval(number))]
    return write_lines(tmp_path / "history.jsonl", *lines)


@pytest.fixture
async def databases() -> AsyncIterator[dict[str, str]]:
    """The variables of two databases without a row."""
    async with incident_database() as incident_url, approval_database() as approval_url:
        yield {"INCIDENT_DATABASE_URL": incident_url, "APPROVAL_DATABASE_URL": approval_url}


@asynccontextmanager
async def services(databases: dict[str, str], **variables: str) -> AsyncIterator[tuple[Incidents, Approvals]]:
    """Both services over the databases."""
    async with (
        healthy_service("incident", databases["INCIDENT_DATABASE_URL"]) as incident_service,
        healthy_service(
            "approval",
            databases["APPROVAL_DATABASE_URL"],
            variables={"APPROVAL_INCIDENT_TARGET": incident_service.address} | variables,
        ) as approval_service,
        incidents_at(incident_service.address) as incidents,
        approvals_at(approval_service.address) as approvals,
    ):
        yield incidents, approvals


async def everything(databases: dict[str, str]) -> Sequence[Any]:
    return [await contents(url) for url in databases.values()]


async def assert_healed(databases: dict[str, str], incidents: Incidents) -> None:
    unacknowledged = "SELECT FROM approvals WHERE incident_resolve_time IS NULL"
    await eventually(
        lambda: rows(databases["APPROVAL_DATABASE_URL"], unacknowledged), lambda found: not found
    )
    await assert_resolved_once(
        databases["INCIDENT_DATABASE_URL"], [incident_id(each) for each in range(STUCK)]
    )
    assert (await incidents.stats()).incidents.stuck == 0
    assert await noops_counted(databases["APPROVAL_DATABASE_URL"]) == Noops(STUCK, STUCK)
    assert await resolutions_counted(databases["INCIDENT_DATABASE_URL"]) == STUCK


async def test_what_was_stuck_is_imported_and_healed_by_reconcile(
    history: Path, databases: dict[str, str]
) -> None:
    async with services(databases, APPROVAL_RECONCILE_EVERY="24h") as (incidents, approvals):
        done = await flywheel_import(history, variables=databases)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"incidents: {STUCK} new, 0 imported before" in done.stdout
        assert f"approvals: {STUCK} new, 0 imported before" in done.stdout
        assert f"executed, not acknowledged: {STUCK}." in done.stdout
        assert f"' ADDRESS {RECONCILE}\n" in done.stdout
        assert done.stdout.endswith("where ADDRESS is the approval service's address\n")
        stats = await incidents.stats()
        assert stats.incidents.stuck == STUCK
        assert {each.reason: each.count for each in stats.incidents.stuck_by_reason if each.count} == {
            flywheel_stats_pb2.STUCK_REASON_EXECUTED_NOT_RESOLVED: STUCK
        }
        assert await noops_counted(databases["APPROVAL_DATABASE_URL"]) == Noops(STUCK, 0)
        assert (await approvals.reconcile()).queued_count == STUCK
        await assert_healed(databases, incidents)
        # Again: what was imported has moved on since, and nothing is done to it.
        before = await everything(databases)
        again = await flywheel_import(history, variables=databases)
        assert (again.returncode, again.stderr) == (0, "")
        assert again.stdout == f"nothing new: all {2 * STUCK} lines were imported before\n"
        assert await everything(databases) == before
        assert (await approvals.reconcile()).queued_count == 0


@pytest.mark.parametrize(
    "last", [incident(39), incident(39, severity="NONE")], ids=["valid", "with a mistake"]
)
async def test_both_services_read_all_lines_of_a_pipe(
    tmp_path: Path, databases: dict[str, str], last: dict[str, Any]
) -> None:
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)

    def feed() -> None:
        with pipe.open("w", encoding="utf-8") as lines:
            for line in [*(incident(number) for number in range(39)), last]:
                lines.write(json.dumps(line) + "\n")
                lines.flush()

    feeding = asyncio.create_task(asyncio.to_thread(feed))
    done = await flywheel_import(pipe, variables=databases)
    await feeding
    if last == incident(39):
        assert "incidents: 40 new" in done.stdout
    else:
        assert "pipe.jsonl:40: severity: " in done.stderr
        assert done.returncode == 1


async def test_what_was_stuck_heals_by_itself(history: Path, databases: dict[str, str]) -> None:
    assert (await flywheel_import(history, variables=databases)).returncode == 0
    async with services(databases, APPROVAL_RECONCILE_EVERY="100ms") as (incidents, _):
        await assert_healed(databases, incidents)


@pytest.mark.parametrize(
    ("killed", "incidents_are_there", "approvals_are_there"),
    [
        pytest.param("import_before_commit:incident-import", False, False, id="incidents, before the commit"),
        pytest.param("import_after_commit:incident-import", True, False, id="incidents, after the commit"),
        pytest.param("import_before_commit:approval-import", True, False, id="approvals, before the commit"),
        pytest.param("import_after_commit:approval-import", True, True, id="approvals, after the commit"),
    ],
)
async def test_an_import_that_was_killed_is_repeated(
    history: Path,
    databases: dict[str, str],
    killed: str,
    incidents_are_there: bool,
    approvals_are_there: bool,
) -> None:
    cut_off = await flywheel_import(history, variables={**databases, "FAILPOINTS": killed})
    assert cut_off.returncode == 1
    assert "import failed" in cut_off.stderr
    tables = {"incident": "incidents", "approval": "approvals"}
    found = {
        table: len(await rows(databases[f"{name.upper()}_DATABASE_URL"], f"SELECT FROM {table}"))
        for name, table in tables.items()
    }
    assert found == {"incidents": STUCK * incidents_are_there, "approvals": STUCK * approvals_are_there}
    again = await flywheel_import(history, variables=databases)
    assert again.returncode == 0, again.stderr
    async with services(databases, APPROVAL_RECONCILE_EVERY="100ms") as (incidents, _):
        await assert_healed(databases, incidents)


async def test_every_mistake_is_named_and_neither_database_is_written(
    tmp_path: Path, databases: dict[str, str]
) -> None:
    write_lines(
        tmp_path / "incidents.jsonl",
        incident(1),
        incident(2, severity="P3", title=""),
        b"{",
        incident(1, fingerprint="other"),
        resolved_incident(3),
    )
    write_lines(
        tmp_path / "approvals.jsonl",
        approval(1, finish_time=at(0)),
        approval(2, kind="aproval"),
        approval(3, state="DONE"),
        approval(4),
        approval(1, incident_id="INC-1"),
    )
    before = await everything(databases)
    done = await flywheel_import(
        tmp_path / "incidents.jsonl", tmp_path / "approvals.jsonl", variables=databases
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "flywheel: 9 mistakes; nothing was written",
        "approvals.jsonl:1: finish_time: is before decide_time",
        "approvals.jsonl:2: kind: expected incident or approval",
        f"approvals.jsonl:3: state: expected {', '.join(list(State)[:-1])} or INDETERMINATE",
        "approvals.jsonl:4: incident_id: there is no such incident, in the files or in the database",
        "approvals.jsonl:5: incident_id: expected INC-YYYYMMDD- and 6 to 12 upper-case hexadecimal digits",
        "incidents.jsonl:2: severity: expected CRITICAL, HIGH, MEDIUM, LOW or INFO",
        "incidents.jsonl:2: title: must not be blank",
        "incidents.jsonl:3: line: is not JSON: Expecting property name enclosed in double quotes at character 2",
        "incidents.jsonl:4: incident_id: is the same as in incidents.jsonl:1",
        "flywheel: see docs/import.md for the format of the lines",
    ]
    assert await everything(databases) == before


async def test_a_database_that_is_not_there_or_not_migrated_is_said_so(
    history: Path, databases: dict[str, str]
) -> None:
    away = {**databases, "APPROVAL_DATABASE_URL": "postgresql://user:hunter2@127.0.0.1:1/approval"}
    done = await flywheel_import(history, variables=away)
    assert done.returncode == 1
    assert "APPROVAL_DATABASE_URL: the database cannot be reached" in done.stderr
    assert "hunter2" not in done.stderr
    assert await rows(databases["INCIDENT_DATABASE_URL"], "SELECT FROM incidents") == []
    await rows(databases["APPROVAL_DATABASE_URL"], "UPDATE alembic_version SET version_num = '0001'")
    done = await flywheel_import(history, variables=databases)
    assert done.returncode == 1
    assert "the database is not up to date" in done.stderr
    assert await rows(databases["INCIDENT_DATABASE_URL"], "SELECT FROM incidents") == []


async def test_a_command_that_is_killed_before_it_lets_them_write_leaves_nothing(
    history: Path, databases: dict[str, str]
) -> None:
    waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1 AND wait_event = $2"
    there = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1"
    incident_url, approval_url = databases.values()
    holder = await asyncpg.connect(approval_url)
    try:
        # So that one service has checked its lines and waits, and the other cannot.
        await holder.execute("BEGIN")
        await holder.execute("LOCK TABLE approvals")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "flywheel", "import", str(history)),
            env={**os.environ, **databases},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await eventually(lambda: rows(incident_url, waits, "incident-import", "ClientRead"))
        await eventually(lambda: rows(approval_url, waits, "approval-import", "relation"))
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await holder.execute("ROLLBACK")
    finally:
        await holder.close()
    await eventually(lambda: rows(incident_url, there, "incident-import"), lambda found: not found)
    await eventually(lambda: rows(approval_url, there, "approval-import"), lambda found: not found)
    assert await rows(incident_url, "SELECT FROM incidents") == []
    assert await rows(approval_url, "SELECT FROM approvals") == []
    again = await flywheel_import(history, variables=databases)
    assert f"incidents: {STUCK} new, 0 imported before" in again.stdout
