"""What the project is measured against does its work: the DBOS workflow of P5, and the exporter of P8 with its figures."""

from pathlib import Path

import asyncpg
import httpx2
import pytest

from benchmarks.dbos_side.process import dbos_process
from benchmarks.environment import Environment
from benchmarks.errors import BenchmarkError
from benchmarks.exporter_side.process import postgres_exporter
from tests.databases import empty_database
from tests.debian_packages import skip_or_fail
from tests.histories import approval_history, incident_history

# Where `make bench` installs it as well: once.
CACHE = Path(__file__).parents[2] / ".flywheel" / "cache"


async def test_each_workflow_of_dbos_takes_its_three_steps_once(tmp_path: Path) -> None:
    try:
        python = Environment(CACHE, lambda _text: None).program("python", needed_for="P5")
    except BenchmarkError as exc:
        skip_or_fail(str(exc))

    async with empty_database() as url:
        with dbos_process(python, url, tmp_path / "log", outstanding=4) as dbos:
            rates = [dbos.rate(10), dbos.rate(6)]
        connection = await asyncpg.connect(url)
        counts = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM approvals WHERE state = 'SUCCEEDED'), "
            "(SELECT count(*) FROM approval_decisions), (SELECT count(*) FROM incidents WHERE state = 'RESOLVED'), "
            "(SELECT count(*) FROM incident_events), (SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS')"
        )
        await connection.close()

    assert all(rate > 0 for rate in rates)
    assert counts is not None
    assert [*counts] == [16] * 5


@pytest.mark.parametrize(
    ("service", "figures"),
    [
        pytest.param(
            "incident",
            {
                "incidents_opened_total": "SELECT count(*) FROM incidents",
                "resolution_count": "SELECT count(*) FROM dispositions",
            },
            id="incident",
        ),
        pytest.param(
            "approval",
            {
                "approvals_now": "SELECT count(*) FROM approvals",
                "executions_day_samples": "SELECT count(*) FROM auto_repair_executions "
                "WHERE finish_time > now() - interval '24 hours'",
            },
            id="approval",
        ),
    ],
)
async def test_the_exporter_has_a_figure_of_each_query_and_they_are_those_of_the_rows(
    tmp_path: Path, service: str, figures: dict[str, str]
) -> None:
    async with incident_history() if service == "incident" else approval_history() as url:
        connection = await asyncpg.connect(url)
        expected = {name: await connection.fetchval(statement) for name, statement in figures.items()}
        await connection.close()
        try:
            with postgres_exporter(service, url, tmp_path) as exporter:
                text = httpx2.get(f"http://{exporter.address}/metrics", trust_env=False, timeout=30).text
        except BenchmarkError as exc:
            skip_or_fail(str(exc))

    lines = [line for line in text.splitlines() if not line.startswith("#")]
    sums = {
        name: sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} "))
        )
        for name in expected
    }
    queries = (Path(__file__).parents[2] / "benchmarks" / "exporter_side" / f"{service}.yml").read_text()
    names = [line.removesuffix(":") for line in queries.splitlines() if line and line[0].isalpha()]

    assert sums == expected
    # What no row has, such as a dismissed job, has no series.
    assert [name for name in names if not any(line.startswith(name) for line in lines)] == [
        name for name in names if name.endswith("_dismissed")
    ]
