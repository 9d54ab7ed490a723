"""Imports at the limits of counters: what cannot be stored is refused with its field, and what is full stays so."""

from pathlib import Path

import asyncpg
import pytest

from incident.importing.importer import IncidentImporter
from tests.callers import incidents_at
from tests.imports import imported, incident, incident_id, resolved_incident, write_lines
from tests.services import healthy_service

MAX_INT = 2**31 - 1
MAX_BIGINT = 2**63 - 1


@pytest.mark.parametrize("count", [MAX_INT + 1, MAX_BIGINT, 10**40, 0, -1])
async def test_an_occurrence_count_that_cannot_be_stored_is_refused(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    path = write_lines(tmp_path / "lines.jsonl", incident(1, occurrence_count=count))
    done = await imported(capsys, IncidentImporter, "incident", database, path)
    assert not done.succeeded
    assert [problem[1] for problem in done.problems] == ["occurrence_count"]


async def test_a_full_count_is_imported_and_full_totals_stay(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute(
        """
        INSERT INTO counters (name, label, shard, value)
        SELECT name, label, shard, $1 FROM generate_series(0, 63) AS shard, (VALUES
            ('incidents_opened', 'HIGH'), ('incidents_resolved', 'HUMAN'), ('resolution_milliseconds_sum', ''))
            AS counter (name, label)
        """,
        MAX_BIGINT,
    )
    await connection.close()
    lines = incident(1, occurrence_count=MAX_INT, fingerprint="disk-full/db-9"), resolved_incident(2)
    path = write_lines(tmp_path / "lines.jsonl", *lines)
    done = await imported(capsys, IncidentImporter, "incident", database, path)
    assert (done.succeeded, done.problems) == (True, [])
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        assert (await incidents.get(incident_id(1))).occurrence_count == MAX_INT
        report = await incidents.report(fingerprint="disk-full/db-9")
        assert (report.deduplicated, report.incident.occurrence_count) == (True, MAX_INT)
        assert max(each.count for each in (await incidents.stats()).incidents.opened_total) == MAX_BIGINT
