"""`kill -9` of either service at the worst instants: after the restart everything is resolved, and once."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
import pytest_asyncio

from awoooi.client import CallError
from tests.approval.schemas import approval_database, end_leases, incident_database, rows
from tests.callers import Approvals, DeliveryState, Incidents, State, approvals_at, incidents_at
from tests.e2e.once import Noops, assert_resolved_once, noops_counted, outbox_at_rest, resolutions_counted
from tests.eventually import eventually
from tests.services import RunningService, healthy_service
from tests.tcp_proxy import TcpProxy, tcp_proxy

# One event loop for what the tests of this file share.
pytestmark = pytest.mark.asyncio(loop_scope="module")

KILLED = -signal.SIGKILL


@asynccontextmanager
async def _approval(
    url: str, incident_address: str, failpoint: str = "", *, resolve_timeout: str = "20s"
) -> AsyncIterator[tuple[RunningService, Approvals]]:
    """An approval process that kills itself at `failpoint`."""
    variables = {
        "APPROVAL_INCIDENT_TARGET": incident_address,
        "APPROVAL_INCIDENT_RESOLVE_TIMEOUT": resolve_timeout,
        "FAILPOINTS": failpoint,
    }
    async with (
        healthy_service("approval", url, variables=variables) as running,
        approvals_at(running.address) as approvals,
    ):
        yield running, approvals


@asynccontextmanager
async def _incident(
    url: str, network: TcpProxy, failpoint: str = ""
) -> AsyncIterator[tuple[RunningService, Incidents]]:
    """An incident process that kills itself at `failpoint`; the network leads to it from now on."""
    async with (
        healthy_service("incident", url, variables={"FAILPOINTS": failpoint}) as running,
        incidents_at(running.address) as incidents,
    ):
        network.target = running.address
        network.reset()
        yield running, incidents


@pytest_asyncio.fixture(loop_scope="module")
async def incident_url() -> AsyncIterator[str]:
    async with incident_database() as url:
        yield url


@pytest_asyncio.fixture(loop_scope="module")
async def approval_url() -> AsyncIterator[str]:
    async with approval_database() as url:
        yield url


@pytest_asyncio.fixture(loop_scope="module")
async def network() -> AsyncIterator[TcpProxy]:
    async with tcp_proxy() as proxy:
        yield proxy


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def incident() -> AsyncIterator[RunningService]:
    """The incident process of the tests that leave it alive."""
    async with incident_database() as url, healthy_service("incident", url) as running:
        yield running


# Where the approval process dies, and whether the outcome is committed by then.
APPROVAL_DIES: Mapping[str, bool] = {
    "execute_before_transaction": False,
    "execute_before_commit": False,
    "execute_after_commit": True,
    "outbox_claimed": True,
    "resolve_acknowledged": True,
    "outbox_delivered": True,
    "outbox_before_done_commit": True,
}
# Killed after the decision and before the execution that it queued.
AUTO_EXECUTE = "auto_execute"


@dataclass(frozen=True)
class Prepared:
    """A database with an approval for each way to die, and nothing under way: the next to write is who dies."""

    url: str
    # (incident id, approval id) by the way to die.
    approvals: Mapping[str, tuple[str, str]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prepared(incident: RunningService) -> AsyncIterator[Prepared]:
    found: dict[str, tuple[str, str]] = {}
    async with approval_database() as url:
        async with (
            incidents_at(incident.address) as incidents,
            _approval(url, incident.address) as (_, approvals),
        ):
            for failpoint in APPROVAL_DIES:
                incident_id = await incidents.opened_id()
                found[failpoint] = (incident_id, (await approvals.approved(incident_id)).approval_id)
            incident_id = await incidents.opened_id()
            proposed = await approvals.proposed(incident_id, auto_execute=True)
            found[AUTO_EXECUTE] = (incident_id, proposed.approval_id)
            await outbox_at_rest(url)
        yield Prepared(url, found)


@pytest.mark.parametrize(("failpoint", "committed"), APPROVAL_DIES.items(), ids=APPROVAL_DIES)
async def test_the_approval_process_dies_on_its_way_to_the_incident_service(
    prepared: Prepared, incident: RunningService, failpoint: str, committed: bool
) -> None:
    incident_id, approval_id = prepared.approvals[failpoint]
    before = await noops_counted(prepared.url), await resolutions_counted(incident.database_url)
    async with _approval(prepared.url, incident.address, failpoint) as (process, approvals):
        # Killed before it answers, or after: the caller may see either.
        with suppress(CallError):
            await approvals.execute(approval_id)
        assert await process.ended() == KILLED

    # Outcome and intent are both there, or neither.
    ((state,),) = await rows(prepared.url, "SELECT state FROM approvals WHERE approval_id = $1", approval_id)
    intents = await rows(
        prepared.url,
        "SELECT attempts FROM outbox WHERE topic = 'incident.resolve' AND dedup_key = $1",
        approval_id,
    )
    assert (state, len(intents)) == (("SUCCEEDED", 1) if committed else ("APPROVED", 0))

    async with _approval(prepared.url, incident.address) as (process, approvals):
        answer = await approvals.execute(approval_id)
        assert answer.approval.state == State.STATE_SUCCEEDED
        assert answer.already_executed is committed
        await end_leases(prepared.url)
        delivered = await approvals.until_delivered(approval_id)
        assert delivered.state == State.STATE_SUCCEEDED
        assert delivered.finish_time == answer.approval.finish_time
        if committed:
            # The try whose process died counts, too.
            assert (await approvals.delivery(approval_id)).attempts >= 2
        acknowledged = await process.logged(
            "incident_resolved_after_no_action_execution", approval_id=approval_id, incident_id=incident_id
        )
        if failpoint == "resolve_acknowledged":
            # The incident service had resolved it, and returns already_resolved.
            assert acknowledged["already_resolved"]
        if not committed:
            assert not acknowledged["already_resolved"]
        await outbox_at_rest(prepared.url)
    await assert_resolved_once(incident.database_url, [incident_id])
    assert (await noops_counted(prepared.url), await resolutions_counted(incident.database_url)) == (
        Noops(before[0].executions + 1, before[0].resolutions + 1),
        before[1] + 1,
    )


async def test_the_approval_process_dies_between_the_decision_and_the_execution_it_queued(
    prepared: Prepared, incident: RunningService
) -> None:
    incident_id, approval_id = prepared.approvals[AUTO_EXECUTE]
    async with _approval(prepared.url, incident.address, "outbox_claimed") as (process, approvals):
        with suppress(CallError):
            await approvals.approve(approval_id)
        assert await process.ended() == KILLED
    state = "SELECT state FROM approvals WHERE approval_id = $1"
    assert await rows(prepared.url, state, approval_id) == [("APPROVED",)]
    async with _approval(prepared.url, incident.address) as (_, approvals):
        await end_leases(prepared.url)
        delivered = await approvals.until_delivered(approval_id)
        assert delivered.state == State.STATE_SUCCEEDED
        await outbox_at_rest(prepared.url)
    await assert_resolved_once(incident.database_url, [incident_id])


async def test_the_incident_process_dies_after_its_commit_and_before_its_reply_arrives(
    approval_url: str, incident_url: str, network: TcpProxy
) -> None:
    async with _approval(approval_url, network.address, resolve_timeout="1s") as (process, approvals):
        async with _incident(incident_url, network) as (incident_process, incidents):
            incident_id = await incidents.opened_id()
            approval_id = (await approvals.approved(incident_id)).approval_id
            await outbox_at_rest(approval_url)
            network.swallows_replies = True
            answer = await approvals.execute(approval_id)
            assert answer.approval.state == State.STATE_SUCCEEDED
            await eventually(lambda: _resolved(incident_url, incident_id))
            incident_process.send(signal.SIGKILL)
            assert await incident_process.ended() == KILLED
        waiting = await approvals.delivery(approval_id)
        assert waiting.state == DeliveryState.STATE_PENDING
        assert not (await approvals.get(approval_id)).HasField("incident_resolve_time")

        network.swallows_replies = False
        async with _incident(incident_url, network):
            await end_leases(incident_url)
            delivered = await approvals.until_delivered(approval_id)
            assert delivered.state == State.STATE_SUCCEEDED
            await process.logged(
                "incident_resolved_after_no_action_execution", approval_id=approval_id, already_resolved=True
            )
            await assert_resolved_once(incident_url, [incident_id])
            await outbox_at_rest(approval_url)
            assert await noops_counted(approval_url) == Noops(1, 1)
            assert await resolutions_counted(incident_url) == 1


@pytest.mark.parametrize("failpoint", ["outbox_claimed", "outbox_before_done_commit"])
async def test_the_incident_process_dies_in_an_effect_of_a_resolution(
    approval_url: str, incident_url: str, network: TcpProxy, failpoint: str
) -> None:
    async with _approval(approval_url, network.address) as (_, approvals):
        async with _incident(incident_url, network, failpoint) as (incident_process, incidents):
            incident_id = await incidents.opened_id()
            approval_id = (await approvals.approved(incident_id)).approval_id
            answer = await approvals.execute(approval_id)
            assert answer.approval.state == State.STATE_SUCCEEDED
            assert await incident_process.ended() == KILLED
        assert await _resolved(incident_url, incident_id)
        assert not await rows(incident_url, "SELECT FROM postmortems JOIN dispositions USING (incident_id)")
        async with _incident(incident_url, network):
            await end_leases(incident_url)
            await approvals.until_delivered(approval_id)
            await assert_resolved_once(incident_url, [incident_id])
            await outbox_at_rest(approval_url)
            assert await noops_counted(approval_url) == Noops(1, 1)
            assert await resolutions_counted(incident_url) == 1


async def test_both_die_in_the_middle_of_a_backlog(
    approval_url: str, incident_url: str, network: TcpProxy
) -> None:
    async with (
        _incident(incident_url, network) as (incident_process, incidents),
        _approval(approval_url, network.address) as (process, approvals),
    ):
        incident_ids = [await incidents.opened_id() for _ in range(40)]
        ids = [(await approvals.approved(incident_id)).approval_id for incident_id in incident_ids]
        answers = [asyncio.create_task(approvals.execute(approval_id)) for approval_id in ids]
        acknowledged = "SELECT FROM approvals WHERE incident_resolve_time IS NOT NULL"
        await eventually(lambda: rows(approval_url, acknowledged), lambda found: len(found) >= 1)
        for each in (incident_process, process):
            each.send(signal.SIGKILL)
        await asyncio.gather(*answers, return_exceptions=True)
        for each in (incident_process, process):
            assert await each.ended() == KILLED
    async with (
        _incident(incident_url, network),
        _approval(approval_url, network.address) as (_, approvals),
    ):
        executed = await asyncio.gather(*(approvals.execute(approval_id) for approval_id in ids))
        assert {answer.approval.state for answer in executed} == {State.STATE_SUCCEEDED}
        await end_leases(approval_url)
        await end_leases(incident_url)
        for approval_id in ids:
            await approvals.until_delivered(approval_id)
        await assert_resolved_once(incident_url, incident_ids)
        await outbox_at_rest(approval_url)
        assert await noops_counted(approval_url) == Noops(len(ids), len(ids))
        assert await resolutions_counted(incident_url) == len(ids)


async def _resolved(incident_url: str, incident_id: str) -> bool:
    statement = "SELECT FROM incidents WHERE state = 'RESOLVED' AND incident_id = $1"
    return bool(await rows(incident_url, statement, incident_id))
