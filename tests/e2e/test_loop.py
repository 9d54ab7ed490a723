"""The whole loop on real processes, seen from where operators look: the RPCs and the gateway's /metrics."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import httpx2

from awoooi.incident.v1 import incident_pb2
from tests.approval.schemas import approval_database, incident_database, rows
from tests.callers import NO_ACTION, UNPARSABLE, Approvals, State, approvals_at, incidents_at
from tests.e2e.once import assert_resolved_once, resolutions_counted
from tests.eventually import eventually
from tests.metrics_gateway.scrapes import Labels, Scrape, read_text
from tests.services import TIMEOUT_SECONDS, ServiceProcess, healthy_service
from tests.tcp_proxy import tcp_proxy

INCIDENTS = 30


class Metrics:
    """The gateway as Prometheus sees it."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def scrape(self) -> Scrape:
        """Scrape once."""
        answer = await self._client.get("/metrics")
        assert answer.status_code == httpx2.codes.OK
        return read_text(answer.text)

    async def until(self, condition: Callable[[Scrape], bool]) -> Scrape:
        """The first scrape that shows it."""
        return await eventually(self.scrape, condition)


@asynccontextmanager
async def _gateway(incident: str, approval: str) -> AsyncIterator[Metrics]:
    process = await asyncio.to_thread(
        ServiceProcess,
        "metrics_gateway",
        ["serve"],
        {
            "GATEWAY_LISTEN": "127.0.0.1:0",
            "GATEWAY_SOURCES": f"incident={incident},approval={approval}",
        },
    )
    try:
        address = (await process.logged("serving"))["address"]
        async with httpx2.AsyncClient(
            base_url=f"http://{address}", timeout=TIMEOUT_SECONDS, trust_env=False
        ) as client:
            yield Metrics(client)
    finally:
        await asyncio.to_thread(process.kill)


def _flywheel(scrape: Scrape, name: str, **labels: str) -> float | None:
    return scrape.value(f"awoooi_flywheel_{name}", **labels)


async def test_an_outage_leaves_no_incident_behind_and_the_stats_show_it() -> None:
    async with (
        incident_database() as incident_url,
        approval_database() as approval_url,
        tcp_proxy() as network,
        _stack(approval_url, network.address) as (approvals, metrics),
    ):
        variables = {"INCIDENT_STUCK_AFTER": "1ms"}
        async with healthy_service("incident", incident_url, variables=variables) as incident:
            network.target = incident.address
            async with incidents_at(incident.address) as incidents:
                ids = [await incidents.opened_id() for _ in range(INCIDENTS)]
                for incident_id in ids:
                    await incidents.start_investigation(incident_id)
            approved = [(await approvals.approved(each, NO_ACTION)).approval_id for each in ids]
            failing = (await approvals.approved(ids[0], UNPARSABLE)).approval_id
            scrape = await metrics.until(lambda found: _flywheel(found, "source_up", source="incident") == 1)
            assert _flywheel(scrape, "incidents", state="investigating") == INCIDENTS
            assert _flywheel(scrape, "incidents_stuck") == INCIDENTS
            assert _flywheel(scrape, "approvals", state="approved") == INCIDENTS + 1
            incident.send(signal.SIGKILL)
            await incident.ended()
            network.reset()

        # The incident service is gone: every observation succeeds all the same, and the gateway says what waits.
        answers = await asyncio.gather(*(approvals.execute(each) for each in approved))
        assert {answer.approval.state for answer in answers} == {State.STATE_SUCCEEDED}
        assert (await approvals.execute(failing)).approval.state == State.STATE_FAILED
        scrape = await metrics.until(lambda found: _flywheel(found, "source_up", source="incident") == 0)
        assert _flywheel(scrape, "source_up", source="approval") == 1
        assert _flywheel(scrape, "resolve_deliveries", state="pending") == INCIDENTS
        assert _flywheel(scrape, "noop_executions_total") == INCIDENTS
        assert _flywheel(scrape, "noop_resolutions_total") == 0
        assert _flywheel(scrape, "incidents_stuck") is None

        # It comes back: the backlog drains by itself, each incident is resolved once.
        async with healthy_service("incident", incident_url, variables=variables) as incident:
            network.target = incident.address
            scrape = await metrics.until(
                lambda found: (
                    _flywheel(found, "resolve_deliveries", state="pending") == 0
                    and _flywheel(found, "incidents_stuck") == 0
                    and _flywheel(found, "incidents_resolved_total", resolution_type="no_action") == INCIDENTS
                )
            )
            assert _flywheel(scrape, "resolve_deliveries", state="parked") == 0
            assert _flywheel(scrape, "noop_executions_total") == INCIDENTS
            assert _flywheel(scrape, "noop_resolutions_total") == INCIDENTS
            assert _flywheel(scrape, "incidents", state="investigating") == 0
            assert _flywheel(scrape, "executions_total", outcome="noop") == INCIDENTS
            assert _flywheel(scrape, "executions_total", outcome="failed") == 1
            # Observations are no repairs: there is nothing to rate.
            assert _flywheel(scrape, "execution_samples") == 0
            assert _flywheel(scrape, "execution_success_rate") is None

            # Once more, and nothing happens twice.
            again = await asyncio.gather(*(approvals.execute(each) for each in approved))
            assert all(answer.already_executed for answer in again)
            await assert_resolved_once(incident_url, ids)
            assert await resolutions_counted(incident_url) == INCIDENTS
            scrape = await metrics.scrape()
            assert _flywheel(scrape, "noop_executions_total") == INCIDENTS
            assert _flywheel(scrape, "noop_resolutions_total") == INCIDENTS
            assert _flywheel(scrape, "incidents_resolved_total", resolution_type="no_action") == INCIDENTS


async def test_no_counter_of_the_loop_falls_when_every_process_is_killed_and_started_again() -> None:
    async with incident_database() as incident_url, approval_database() as approval_url:
        before: Mapping[tuple[str, Labels], float] = {}
        for life in range(1, 3):
            async with (
                healthy_service("incident", incident_url) as incident,
                _stack(approval_url, incident.address) as (approvals, metrics),
                incidents_at(incident.address) as incidents,
            ):
                first = _loop_counters(await metrics.until(_all_up))
                fallen = {
                    key: (value, first.get(key))
                    for key, value in before.items()
                    if first.get(key, -1) < value
                }
                assert not fallen
                approval = await approvals.approved(await incidents.opened_id(), NO_ACTION)
                await approvals.execute(approval.approval_id)

                def acknowledged(found: Scrape, lives: int = life) -> bool:
                    resolved = _flywheel(found, "incidents_resolved_total", resolution_type="no_action")
                    return _flywheel(found, "noop_resolutions_total") == resolved == lives

                before = _loop_counters(await metrics.until(acknowledged))
                # The gateway and the approval service are killed by their own contexts.
                incident.send(signal.SIGKILL)
                await incident.ended()


def _all_up(scrape: Scrape) -> bool:
    return all(_flywheel(scrape, "source_up", source=source) == 1 for source in ("incident", "approval"))


def _loop_counters(scrape: Scrape) -> Mapping[tuple[str, Labels], float]:
    """The counters that the services keep; those of the gateway are its process's own."""
    return {
        (name, labels): value
        for (name, labels), value in scrape.samples.items()
        if name.startswith("awoooi_flywheel_")
        and name.endswith(("_total", "_bucket", "_count", "_sum"))
        and "source" not in dict(labels)
    }


async def test_from_the_alert_to_the_postmortem_the_only_manual_step_is_to_approve() -> None:
    async with (
        incident_database() as incident_url,
        approval_database() as approval_url,
        healthy_service("incident", incident_url) as incident,
        healthy_service(
            "approval", approval_url, variables={"APPROVAL_INCIDENT_TARGET": incident.address}
        ) as approval,
        approvals_at(approval.address) as approvals,
        incidents_at(incident.address) as incidents,
    ):
        incident_id = await incidents.opened_id(title="disk is nearly full", fingerprint="disk/db-1")
        proposed = await approvals.proposed(
            incident_id, "NO_ACTION: it is cleaned every night", actor="ai", auto_execute=True
        )
        assert proposed.incident_verified
        await approvals.approve(proposed.approval_id, actor="alice", reason="seen before")
        delivered = await approvals.until_delivered(proposed.approval_id)
        assert delivered.state == State.STATE_SUCCEEDED
        await assert_resolved_once(incident_url, [incident_id])
        types = [event.type for event in await incidents.events(incident_id)]
        assert types[0] == incident_pb2.IncidentEvent.TYPE_OPENED
        assert types.count(incident_pb2.IncidentEvent.TYPE_RESOLVED) == 1
        ((markdown,),) = await rows(incident_url, "SELECT markdown FROM postmortems")
        assert "disk is nearly full" in markdown
        # The problem is over: the next report of it is a new incident.
        assert await incidents.opened_id(title="disk is nearly full", fingerprint="disk/db-1") != incident_id


@asynccontextmanager
async def _stack(approval_url: str, incident_address: str) -> AsyncIterator[tuple[Approvals, Metrics]]:
    variables = {"APPROVAL_INCIDENT_TARGET": incident_address}
    async with (
        healthy_service("approval", approval_url, variables=variables) as approval,
        approvals_at(approval.address) as approvals,
        _gateway(incident_address, approval.address) as metrics,
    ):
        yield approvals, metrics
