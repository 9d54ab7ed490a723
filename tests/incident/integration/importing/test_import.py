"""Import of incidents into a real database: idempotent, all or nothing."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.importing.importer import IncidentImporter
from tests.callers import incidents_at
from tests.imports import (
    LONG_AGO,
    Imported,
    approval,
    approval_id,
    at,
    imported,
    incident,
    incident_id,
    resolved_incident,
    write_lines,
)
from tests.incident.integration.importing.rows import counters, fetch
from tests.services import healthy_service

Import = Callable[..., Awaitable[Imported]]
Event = incident_pb2.IncidentEvent
TABLES = (
    "incidents",
    "incident_events",
    "outbox",
    "dispositions",
    "counters",
    "imported_rows",
    "postmortems",
)


@pytest.fixture
def importing(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Import:
    """Imports lines into the test's database."""

    async def run(*lines: dict[str, Any] | bytes) -> Imported:
        path = write_lines(tmp_path / "lines.jsonl", *lines)
        return await imported(capsys, IncidentImporter, "incident", database, path)

    return run


async def contents(database: str) -> Sequence[tuple[Any, ...]]:
    """Every row with the transaction that wrote it."""
    found: list[tuple[Any, ...]] = []
    for table in TABLES:
        statement = f"SELECT xmin::text, row_to_json(t)::text FROM {table} AS t ORDER BY 2"  # noqa: S608 - names above
        found += await fetch(database, statement)
    return found


def time(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_imported_rows_equal_those_that_rpcs_write(database: str, importing: Import) -> None:
    done = await importing(
        incident(1, labels={"ns": "prod"}, source="monolith", opened_by="detector", occurrence_count=3),
        approval(1),
        resolved_incident(2),
        incident(3, state="OPEN", investigate_time=..., fingerprint=...),
    )
    assert (done.succeeded, done.problems) == (True, [])
    assert (done.counts["new"], done.counts["known"]) == (3, 0)
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        listed = (await incidents.list(order=pb.ListRequest.ORDER_CREATE_TIME_ASC).page()).incidents
        assert [each.incident_id for each in listed] == [incident_id(number) for number in (1, 2, 3)]
        stuck, resolved, waiting = listed
        assert (stuck.state, stuck.occurrence_count, stuck.opened_by) == (
            incident_pb2.Incident.STATE_INVESTIGATING,
            3,
            "detector",
        )
        assert dict(stuck.labels) == {"ns": "prod"}
        # The execution was the last progress.
        assert _time(stuck.last_progress_time) == time(at(36))
        assert _time(stuck.create_time) == time(at(30))
        assert (resolved.resolution_number, resolved.resolved_by, resolved.resolution_note) == (
            1,
            "bob",
            "restarted it",
        )
        assert _time(resolved.resolve_time) == _time(resolved.last_progress_time) == time(at(660))
        assert waiting.state == incident_pb2.Incident.STATE_OPEN
        found = (await incidents.list(stuck=True).page()).incidents
        assert {each.incident_id for each in found} == {incident_id(1), incident_id(3)}
        events = (await incidents.list_events(incident_id(1)).page()).events
        assert [event.type for event in events] == [
            Event.TYPE_OPENED,
            Event.TYPE_INVESTIGATION_STARTED,
            Event.TYPE_PROPOSED,
            Event.TYPE_APPROVED,
            Event.TYPE_EXECUTED,
            Event.TYPE_NOTE,
        ]
        assert [_time(event.event_time) for event in events[:-1]] == [
            time(at(each)) for each in (30, 31, 32, 35, 36)
        ]
        assert events[3].attributes == {"approval_id": approval_id(1), "approved_by": "alice"}
        # An imported resolution runs no side effect; they are listed with the reason.
        effects = (await incidents.list_side_effects(incident_id=incident_id(2)).page()).side_effects
        assert {each.effect: each.state for each in effects} == {
            effect: incident_pb2.SideEffect.STATE_DONE
            if effect == incident_pb2.SideEffect.EFFECT_DISPOSITION
            else incident_pb2.SideEffect.STATE_SKIPPED
            for effect in incident_pb2.SideEffect.Effect.values()[1:]
        }
        assert all("imported" in each.skip_reason for each in effects if each.skip_reason)
        # Resolved once more, it is a new resolution with effects of its own.
        await incidents.reopen(incident_id(2), reason="it is back")
        again = await incidents.resolve(incident_id(2), resolution_type=incident_pb2.RESOLUTION_TYPE_HUMAN)
        assert again.incident.resolution_number == 2
    assert await fetch(database, "SELECT incident_id FROM postmortems WHERE resolution_number = 1") == []


async def test_imported_counters_equal_those_that_rpcs_raise(database: str, importing: Import) -> None:
    await importing(
        incident(1), resolved_incident(2), resolved_incident(3, severity="HIGH", resolution_type="DUPLICATE")
    )
    assert await counters(database) == {
        ("incidents_opened", "MEDIUM"): 2,
        ("incidents_opened", "HIGH"): 1,
        ("incidents_resolved", "HUMAN"): 1,
        ("incidents_resolved", "DUPLICATE"): 1,
        ("resolution_seconds_bucket", "900"): 2,
        ("resolution_milliseconds_sum", ""): 1_200_000,
    }
    assert await fetch(
        database,
        "SELECT incident_id, resolve_time, resolution_seconds FROM dispositions ORDER BY incident_id",
    ) == [(incident_id(2), time(at(660)), 600.0), (incident_id(3), time(at(690)), 600.0)]


async def test_import_is_idempotent_also_after_the_rows_have_changed(
    database: str, importing: Import
) -> None:
    lines = [incident(1), approval(1), resolved_incident(2)]
    await importing(*lines)
    # One is resolved since, another removed by retention.
    await fetch(
        database,
        """UPDATE incidents SET state = 'RESOLVED', resolve_time = now(), resolution_type = 'HUMAN', title = 'other'
        WHERE incident_id = $1""",
        incident_id(1),
    )
    await fetch(database, "DELETE FROM incidents WHERE incident_id = $1", incident_id(2))
    before = await contents(database)
    # The same content: another order, another time zone, null for a missing field.
    same = [lines[2], {**lines[0], "create_time": "2025-05-07T18:00:30+08:00", "source": None}, lines[1]]
    done = await importing(*same)
    assert (done.succeeded, done.problems) == (True, [])
    assert done.counts == {"new": 0, "known": 2, "events": 0}
    assert await contents(database) == before


async def test_approvals_can_be_imported_after_their_incidents(database: str, importing: Import) -> None:
    await importing(incident(1), resolved_incident(2))
    done = await importing(approval(1), approval(2))
    assert done.counts == {"new": 0, "known": 0, "events": 6}
    progress = await fetch(database, "SELECT last_progress_time FROM incidents ORDER BY incident_id")
    assert progress == [(time(at(36)),), (time(at(660)),)]
    numbers = await fetch(
        database,
        "SELECT resolution_number FROM incident_events WHERE event_id LIKE '%executed' ORDER BY incident_id",
    )
    assert numbers == [(0,), (0,)]


@pytest.mark.parametrize(
    ("lines", "problems"),
    [
        pytest.param(
            [incident(1), incident(2), incident(1)],
            [
                (3, "incident_id", "is the same as in {file}:1"),
                (3, "fingerprint", "is the same as in {file}:1, and"),
            ],
            id="an id twice",
        ),
        pytest.param(
            [incident(1), incident(2, fingerprint="api-latency-1")],
            [(2, "fingerprint", "is the same as in {file}:1, and both incidents are unresolved")],
            id="two unresolved incidents with one fingerprint",
        ),
        pytest.param(
            [approval(7)],
            [(1, "incident_id", "there is no such incident, in the files or in the database")],
            id="an approval without its incident",
        ),
        pytest.param(
            [incident(1), approval(1, incident_resolve_time=at(37))],
            [(2, "incident_resolve_time", "its incident is not RESOLVED")],
            id="acknowledged, and its incident is open",
        ),
        pytest.param(
            [incident(90)],
            [(1, "incident_id", "there is an incident with this id that was not imported")],
            id="an id taken by an RPC",
        ),
        pytest.param(
            [incident(1, fingerprint="taken")],
            [(1, "fingerprint", f"the unresolved incident {incident_id(90)} has it")],
            id="a fingerprint of an unresolved incident",
        ),
        pytest.param(
            [incident(91, title="another")],
            [(1, "incident_id", "was imported before with other content")],
            id="other content than before",
        ),
        pytest.param(
            [
                b"{]",
                incident(1, title=""),
                approval(1),
                b"\xff",
                approval(2, create_time="x"),
                incident(3, state="X"),
            ],
            [
                (1, "", "is not JSON"),
                (2, "title", "must not be blank"),
                (4, "", "is not UTF-8"),
                (5, "create_time", "expected a time"),
                (6, "state", "expected OPEN"),
            ],
            id="several, and the approval of an invalid incident is none",
        ),
        pytest.param([b""], [(1, "", "the file has no lines")], id="an empty file"),
    ],
)
async def test_an_invalid_line_is_named_and_nothing_is_written(
    database: str,
    importing: Import,
    tmp_path: Path,
    lines: Sequence[dict[str, Any] | bytes],
    problems: Sequence[tuple[int, str, str]],
) -> None:
    assert (await importing(incident(91))).succeeded
    await fetch(
        database,
        """INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source,
        opened_by, content_hash) VALUES ($1, '', '', 'LOW', 'OPEN', 'taken', '{}', '', '', '')""",
        incident_id(90),
    )
    before = await contents(database)
    done = await importing(*lines)
    assert not done.succeeded
    found = sorted(done.problems)
    assert [(line, field) for line, field, _ in found] == sorted((line, field) for line, field, _ in problems)
    for _, field, reason in problems:
        expected = reason.format(file=tmp_path / "lines.jsonl")
        assert any(reason.startswith(expected) for _, named, reason in found if named == field)
    assert await contents(database) == before


async def test_the_fingerprint_of_a_resolved_incident_is_free(database: str, importing: Import) -> None:
    lines = [
        resolved_incident(1, fingerprint="f"),
        resolved_incident(2, fingerprint="f"),
        incident(3, fingerprint="f"),
    ]
    assert (await importing(*lines)).succeeded
    assert await fetch(database, "SELECT count(*) FROM incidents WHERE fingerprint = 'f'") == [(3,)]


async def test_an_import_of_several_batches_is_one_transaction(database: str, importing: Import) -> None:
    lines = [line for number in range(3_000) for line in (incident(number), approval(number))]
    assert (await importing(*lines)).counts == {"new": 3_000, "known": 0, "events": 18_000}
    assert await fetch(database, "SELECT count(DISTINCT xmin::text) FROM incidents") == [(1,)]
    out_of_order = """
        SELECT FROM incident_events AS event JOIN incident_events AS later USING (incident_id)
        WHERE event.sequence < later.sequence AND event.event_time > later.event_time
    """
    assert await fetch(database, out_of_order) == []


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=LONG_AGO.tzinfo)
