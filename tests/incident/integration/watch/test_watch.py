"""Watch: which changes come, in which order, and from where on."""

from typing import Any

import asyncpg
import pytest

from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents
from tests.incident.incidents import INVESTIGATING, OPEN, RESOLVED, new_id, token
from tests.incident.integration.watch.watching import OWN_EFFECTS, Watcher, act, note, type_name, watching
from tests.services import RunningService

HIGH = incident_pb2.SEVERITY_HIGH
MEDIUM = incident_pb2.SEVERITY_MEDIUM
LOW = incident_pb2.SEVERITY_LOW

INSERT_NOTE = """
    INSERT INTO incident_events (event_id, incident_id, type, actor, summary, resolution_number)
    VALUES ($1, $2, 'NOTE', 'tester', 'written by hand', 0)
"""


async def test_a_stream_begins_with_a_heartbeat_that_it_can_be_resumed_from(
    incidents: Incidents,
) -> None:
    await incidents.opened()
    watcher = await watching(incidents)
    assert [(r.HasField("incident"), r.HasField("event")) for r in watcher.responses] == [(False, False)]


async def test_a_new_stream_has_exactly_the_changes_committed_after_it_began(
    incidents: Incidents,
) -> None:
    labels = {"test": token()}
    await incidents.opened(labels=labels)
    watcher = await watching(incidents, labels=labels)
    later = await incidents.opened(labels=labels)
    change = await watcher.change()
    assert change.incident == later
    assert type_name(change.event) == "OPENED"
    assert change.event.incident_id == later.incident_id


async def test_the_incident_of_a_change_is_at_least_as_new_as_the_event(
    incidents: Incidents,
) -> None:
    labels = {"test": token()}
    start = await watching(incidents, labels=labels)
    incident = await incidents.resolved(labels=labels)
    resumed = await watching(incidents, labels=labels, resume_token=start.token)
    first = await resumed.change()
    assert type_name(first.event) == "OPENED"
    assert (first.incident.incident_id, first.incident.state) == (incident.incident_id, RESOLVED)


async def test_a_change_that_commits_late_neither_delays_others_nor_is_lost(
    incidents: Incidents, service: RunningService
) -> None:
    labels = {"test": token()}
    incident_id = (await incidents.opened(labels=labels)).incident_id
    watcher = await watching(incidents, labels=labels)
    first, second, late = (f"{token()}-{n}" for n in ("first", "second", "late"))
    slow = await asyncpg.connect(service.database_url)
    try:
        transaction = slow.transaction()
        await transaction.start()
        # It takes its transaction id and its sequence number now, before the two others.
        await slow.execute(INSERT_NOTE, late, incident_id)
        await note(incidents, incident_id, first)
        await note(incidents, incident_id, second)
        assert await watcher.until_event(second) == [first, second]
        meanwhile = watcher.token
        await transaction.commit()
    finally:
        await slow.close()
    assert await watcher.until_event(late) == [first, second, late]
    resumed = await watching(incidents, labels=labels, resume_token=meanwhile)
    assert await resumed.until_event(late) == [late]


async def test_missed_changes_of_an_incident_are_in_commit_order(
    incidents: Incidents, service: RunningService
) -> None:
    labels = {"test": token()}
    incident_id = (await incidents.opened(labels=labels)).incident_id
    start = await watching(incidents, labels=labels)
    start.stream.close()
    first, second = f"{token()}-first", f"{token()}-second"
    waits = await asyncpg.connect(service.database_url)
    goes = await asyncpg.connect(service.database_url)
    try:
        # As a batch does that has locked other incidents before: its transaction is the older one, and commits second.
        transaction = waits.transaction()
        await transaction.start()
        await waits.execute("SELECT pg_current_xact_id()")
        await goes.execute(INSERT_NOTE, first, incident_id)
        await waits.execute(INSERT_NOTE, second, incident_id)
        await transaction.commit()
    finally:
        await waits.close()
        await goes.close()
    resumed = await watching(incidents, labels=labels, resume_token=start.token)
    assert await resumed.until_event(second) == [first, second]


async def test_a_stream_resumes_after_any_response_without_gap_or_duplicate(
    incidents: Incidents,
) -> None:
    labels = {"test": token()}
    start = await watching(incidents, labels=labels)
    resolved_ids = [(await incidents.resolved(labels=labels)).incident_id for _ in range(3)]
    end = token()
    await note(incidents, resolved_ids[-1], end)
    everything = await start.until_event(end)
    for place, response in enumerate(start.responses[:-1]):
        resumed = await watching(incidents, labels=labels, resume_token=response.resume_token)
        # Transactions that ran side by side may have either order.
        assert sorted(await resumed.until_event(end)) == sorted(everything[place:])
        resumed.stream.close()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            {},
            "A OPENED, B OPENED, C OPENED, A INVESTIGATION_STARTED, A NOTE, A RESOLVED, B RESOLVED, A REOPENED, "
            "A INVESTIGATION_STARTED, A NOTE, B NOTE, C NOTE",
            id="no filter",
        ),
        pytest.param(
            {"states": [OPEN]},
            "A OPENED, B OPENED, C OPENED, A INVESTIGATION_STARTED, B RESOLVED, A REOPENED, A INVESTIGATION_STARTED, "
            "C NOTE",
            id="open before or after",
        ),
        pytest.param(
            {"states": [INVESTIGATING]},
            "A INVESTIGATION_STARTED, A NOTE, A RESOLVED, A INVESTIGATION_STARTED, A NOTE",
            id="being investigated before or after",
        ),
        pytest.param(
            {"states": [RESOLVED]},
            "A RESOLVED, B RESOLVED, A REOPENED, B NOTE",
            id="resolved before or after",
        ),
        pytest.param(
            {"states": [OPEN, INVESTIGATING]},
            "A OPENED, B OPENED, C OPENED, A INVESTIGATION_STARTED, A NOTE, A RESOLVED, B RESOLVED, A REOPENED, "
            "A INVESTIGATION_STARTED, A NOTE, C NOTE",
            id="the unresolved, with the change that resolves them",
        ),
        pytest.param({"severities": [LOW]}, "B OPENED, B RESOLVED, B NOTE", id="a severity"),
        pytest.param(
            {"severities": [LOW, MEDIUM]},
            "B OPENED, C OPENED, B RESOLVED, B NOTE, C NOTE",
            id="two severities",
        ),
        pytest.param({"fingerprint": "C"}, "C OPENED, C NOTE", id="a fingerprint"),
        pytest.param({"labels": {"zone": "eu"}}, "B OPENED, B RESOLVED, B NOTE", id="a label"),
        pytest.param({"incident_id": "B"}, "B OPENED, B RESOLVED, B NOTE", id="an incident"),
        pytest.param(
            {"states": [OPEN], "severities": [HIGH, LOW], "labels": {"zone": "us"}},
            "A OPENED, A INVESTIGATION_STARTED, A REOPENED, A INVESTIGATION_STARTED",
            id="several filters together",
        ),
    ],
)
async def test_only_changes_that_match_all_criteria_come_live_and_missed(
    incidents: Incidents, fields: dict[str, Any], expected: str
) -> None:
    test = token()
    ids = {name: new_id() for name in "ABC"}
    names = {incident_id: name for name, incident_id in ids.items()}
    if "fingerprint" in fields:
        fields = fields | {"fingerprint": f"{fields['fingerprint']}-{test}"}
    if "incident_id" in fields:
        fields = fields | {"incident_id": ids[fields["incident_id"]]}
    fields = fields | {"labels": fields.get("labels", {}) | {"test": test}}

    live = await watching(incidents, **fields)
    beginning = live.token
    for name, severity, zone in (("A", HIGH, "us"), ("B", LOW, "eu"), ("C", MEDIUM, "us")):
        await incidents.report(
            incident_id=ids[name],
            severity=severity,
            labels={"test": test, "zone": zone},
            fingerprint=f"{name}-{test}",
        )
    await act(incidents, "start", ids["A"])
    await note(incidents, ids["A"], token())
    await act(incidents, "resolve", ids["A"])
    await act(incidents, "resolve", ids["B"])
    await act(incidents, "reopen", ids["A"])
    await act(incidents, "start", ids["A"])
    for name in "ABC":
        await note(incidents, ids[name], token())
    missed = await watching(incidents, resume_token=beginning, **fields)
    for watcher in (live, missed):
        assert await _story(watcher, names, len(expected.split(", "))) == expected


async def _story(watcher: Watcher, names: dict[str, str], length: int) -> str:
    """The first changes of A, B and C that came, without those of side effects, which run when they can."""
    story: list[str] = []
    while len(story) < length:
        change = await watcher.change()
        if type_name(change.event) not in OWN_EFFECTS:
            story.append(f"{names[change.event.incident_id]} {type_name(change.event)}")
    return ", ".join(story)
