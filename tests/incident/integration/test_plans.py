"""What the incident service costs grows with its work, not with its history: the plans of every statement that it executes.

A service over a database with a history is called in every way, and its background work runs once; all plans are recorded.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from awoooi.client import IncidentClient, InvalidArgumentError
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.approval.schemas import rows
from tests.callers import Incidents, incidents_at
from tests.databases import cloned_database
from tests.eventually import eventually
from tests.histories import INCIDENTS, incident_history
from tests.migrated import migrate_incident
from tests.plans.checks import (
    plans_when_empty,
    refuse_missing,
    refuse_more_rows,
    refuse_other_ways,
    refuse_scans,
)
from tests.plans.plan import Plan
from tests.plans.recorded import RecordedService, recorded_service
from tests.plans.statements import statements_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = INCIDENTS // 10
# Statements that touch more rows, by a part of them: the work of a day, a batch of removals with all that goes with them.
BOUNDS = {
    "SELECT hour,": 2 * DAY + 100,
    "FROM postmortems WHERE create_time >": DAY + 50,
    "FROM unnest($2::TEXT[]) WITH ORDINALITY AS old": 100 * 30,
    # So many candidates of each term of a search.
    "WITH term AS": 2000,
}
EXEMPT = {
    "incident.importing": "an import reads what it imports",
    "servicekit.importing": "likewise",
    "servicekit.database.privileges": "before a migration",
    "servicekit.audit.repository._HEADS": "an export reads what it exports",
    "servicekit.audit.repository._PAGE": "likewise",
    "servicekit.outbox.jobs._LIST_BY_PREFIX": "the approval service's",
    "servicekit.outbox.open_jobs._LIST_OPEN_KEYS": "the approval service's",
    "servicekit.outbox.queue._REMOVE_DONE": "the approval service's: effects that are done are kept",
    # tests/servicekit/integration/outbox/test_plans.py
    "servicekit.outbox.queue._RELEASE": "at the end of a process",
    "servicekit.outbox.queue._END_BACKOFFS": "after an outage",
    "servicekit.outbox.dead_letters._GET_BY_ID": "the approval service's",
    "servicekit.outbox.open_jobs._LIST_TOPICS": "the approval service's",
    "servicekit.outbox.queue._ENQUEUE": "the approval service's: Resolve enqueues",
    "servicekit.outbox.wakeup._PROBE": "of no table",
    "servicekit.watch.epoch_repository": "in a database that is new or restored, once",
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the service has executed, and over which database."""

    plans: Sequence[Plan]
    url: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recorded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Recorded]:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(incident_history())
        file = tmp_path_factory.mktemp("plans") / "incident.jsonl"
        # The oldest day of the history is removed. Nobody listens at the webhook: its jobs fail.
        variables = {
            "INCIDENT_RETENTION": f"{24 * 179}h",
            "INCIDENT_WEBHOOK_URL": "http://127.0.0.1:9/",
            "INCIDENT_WEBHOOK_SECRET": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        }
        service = await stack.enter_async_context(
            recorded_service("incident", url, file, variables=variables)
        )
        incidents = await stack.enter_async_context(incidents_at(service.address))
        await _lists(incidents)
        await _life(incidents, url)
        await _dead_letters(incidents, url)
        await _watch(incidents)
        await eventually(lambda: asyncio.to_thread(_has_worked, service))
        yield Recorded(service.plans(), url)


async def _lists(incidents: Incidents) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=170)
    orders: Sequence[Any] = (
        "CREATE_TIME_DESC",
        "CREATE_TIME_ASC",
        "UPDATE_TIME_DESC",
        "LAST_PROGRESS_TIME_ASC",
    )
    criteria: Sequence[Mapping[str, Any]] = (
        {},
        {"states": ["OPEN"]},
        {"states": ["OPEN", "INVESTIGATING"]},
        {"states": ["RESOLVED"]},
        {"severities": ["CRITICAL"]},
        {"fingerprint": "never seen"},
        {"labels": {"never": "seen"}},
        {"stuck": True},
        {"create_time_start": long_ago, "create_time_end": long_ago + timedelta(days=1)},
        {"resolve_time_start": long_ago, "resolve_time_end": long_ago + timedelta(days=1)},
    )
    for order in orders:
        for each in criteria:
            page = await incidents.list(order=order, page_size=5, **each).page()
            if page.next_page_token:
                await incidents.list(
                    order=order,
                    page_size=5,
                    page_token=page.next_page_token,
                    **each,
                ).page()
    state_lists: Sequence[Sequence[Any]] = (
        [],
        ["PENDING"],
        ["PARKED"],
        ["DISMISSED"],
        ["PENDING", "PARKED"],
        ["DONE"],
        ["SKIPPED"],
    )
    for states in state_lists:
        await incidents.list_side_effects(states=states).page()
    await incidents.list_side_effects(effects=["WEBHOOK"]).page()
    await incidents.list_side_effects(effects=["POSTMORTEM"], states=["SKIPPED"]).page()
    await incidents.search_knowledge("CPU of app-1 beyond").page()
    await incidents.stats(view="FULL")


async def _life(incidents: Incidents, url: str) -> None:
    created = await incidents.report(fingerprint="of these tests", request_id="plans-1")
    await incidents.report(fingerprint="of these tests", request_id="plans-1")
    await incidents.report(fingerprint="of these tests")
    incident_id = created.incident.incident_id
    await incidents.report(incident_id="INC-20260507-99ADF2")
    await incidents.report(incident_id="INC-20260507-99ADF2")
    await incidents.start_investigation(incident_id)
    await incidents.add_event(incident_id, type="NOTE", summary="looked", event_id="plans-note")
    await incidents.add_event(incident_id, type="NOTE", summary="looked", event_id="plans-note")
    await incidents.add_event(incident_id, type="PROPOSED", summary="restart")
    with pytest.raises(InvalidArgumentError):
        await incidents.add_event(
            incident_id, type="NOTE", summary="to come", event_time=datetime.now(UTC) + timedelta(days=1)
        )
    await incidents.resolve(incident_id, resolution_type="HUMAN", note="restarted")
    await eventually(
        lambda: incidents.event_types(incident_id), lambda types: types.count("EFFECT_DONE") == 3
    )
    await incidents.get_postmortem(incident_id)
    await incidents.list_events(incident_id, types=["NOTE"]).page()
    await incidents.list_side_effects(incident_id=incident_id).page()
    await incidents.reopen(incident_id, reason="again")
    item = pb.BatchResolveRequest.Item(
        incident_id=incident_id, resolution_type=incident_pb2.RESOLUTION_TYPE_HUMAN, note="again"
    )
    unknown = pb.BatchResolveRequest.Item(
        incident_id="INC-20260507-000000", resolution_type=incident_pb2.RESOLUTION_TYPE_HUMAN
    )
    await incidents.batch_resolve([item, unknown])
    await incidents.lookup_incidents([pb.LookupIncidentsRequest.Item(incident_id=incident_id)])
    canary = await incidents.opened_id(labels={"flywheel-canary": "true"})
    await incidents.resolve(canary, resolution_type="NO_ACTION")
    waiting = "SELECT FROM outbox WHERE dedup_key = $1 AND state = 'PENDING'"
    await eventually(lambda: rows(url, waiting, f"{canary}/1"), lambda found: not found)
    await incidents.remove_canary(canary)


async def _dead_letters(incidents: Incidents, url: str) -> None:
    parked = [each async for each in incidents.list_side_effects(states=["PARKED"])]
    await incidents.retry_side_effect(parked[0].incident_id, effect="WEBHOOK")
    await incidents.dismiss_side_effect(parked[1].incident_id, effect="WEBHOOK", reason="too late")
    await incidents.retry_side_effects(limit=2)
    failed = "SELECT count(*) FROM outbox WHERE state = 'PENDING' AND last_error IS NOT NULL"
    await eventually(lambda: rows(url, failed), lambda found: found[0][0] > 0)


async def _watch(incidents: IncidentClient) -> None:
    token = ""
    async with asyncio.timeout(60):
        async for response in incidents.watch(include_existing=True, heartbeats=True, states=["OPEN"]):
            if token := response.resume_token:
                break
        note = asyncio.create_task(incidents.create(title="while nobody watched", severity="LOW"))
        async for response in incidents.watch(resume_token=token, heartbeats=True, states=["OPEN"]):
            if response.HasField("incident"):
                break
        await note


# The last of each piece of background work.
_WORK = (
    "INSERT INTO removed_incidents",
    "FROM knowledge WHERE indexed_digest <>",
    "UPDATE outbox SET next_attempt_time = now() WHERE topic",
)


def _has_worked(service: RecordedService) -> bool:
    executed = [plan.statement for plan in service.plans()]
    return all(any(part in statement for statement in executed) for part in _WORK)


async def test_no_table_that_grows_is_read_from_end_to_end(recorded: Recorded) -> None:
    refuse_scans(recorded.plans)


async def test_no_statement_touches_more_rows_than_its_work_has(recorded: Recorded) -> None:
    refuse_more_rows(recorded.plans, BOUNDS)


async def test_every_statement_of_the_service_was_executed(recorded: Recorded) -> None:
    refuse_missing(recorded.plans, statements_of("incident", "servicekit"), EXEMPT)


async def test_a_plan_that_was_made_while_all_was_empty_reads_in_the_same_way(recorded: Recorded) -> None:
    async with cloned_database("incident", migrate_incident) as url:
        # Any index of what is PARKED will do: so many are read.
        refuse_other_ways(await plans_when_empty(url, recorded.plans), ["WITH open AS"])
