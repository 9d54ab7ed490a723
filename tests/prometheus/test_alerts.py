"""The rules in a real Prometheus over a real stack: alerts fire on faults, and resolve after recovery."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as incident_service
from metrics_gateway.exposition.catalogue import exported_series
from tests.approval.schemas import approval_database, incident_database
from tests.callers import Incidents, State, approvals_at, incidents_at
from tests.eventually import eventually
from tests.prometheus.alert_rules import ALERTS
from tests.prometheus.server import Prometheus, accelerated, running_prometheus
from tests.services import ServiceProcess, healthy_service
from tests.tcp_proxy import tcp_proxy

RATE = "awoooi_flywheel_execution_success_rate"
# Withheld without enough of what they are rates of.
WITHHELD = {RATE, "awoooi_flywheel_recovery_rate"}
# The default of 30 minutes, accelerated, would still be 30 s.
VARIABLES = {"INCIDENT_STUCK_AFTER": "1s"}


@asynccontextmanager
async def gateway(sources: str, listen: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """A gateway of these sources; its address."""
    process = await asyncio.to_thread(
        ServiceProcess, "metrics_gateway", ["serve"], {"GATEWAY_LISTEN": listen, "GATEWAY_SOURCES": sources}
    )
    try:
        address: str = (await process.logged("serving"))["address"]
        yield address
    finally:
        await asyncio.to_thread(process.kill)


async def stuck_more_and_more(incidents: Incidents, seen: Prometheus) -> list[str]:
    """Open incidents without progress until the alert on them fires; their ids."""
    opened: list[str] = []
    firing: set[str] = set()
    while "FlywheelIncidentsStuckGrowing" not in firing:
        stuck = len(opened)
        opened.append(await incidents.opened_id())
        await seen.until_given(f"awoooi_flywheel_incidents_stuck >= {stuck}")
        firing = await seen.firing()
    return opened


async def resolve_all(incidents: Incidents, ids: list[str]) -> None:
    """Resolve incidents as an operator."""
    items = [
        incident_service.BatchResolveRequest.Item(
            incident_id=each, resolution_type=incident_pb2.RESOLUTION_TYPE_HUMAN
        )
        for each in ids
    ]
    await incidents.batch_resolve(items)


@pytest.mark.slow
async def test_alerts_fire_on_faults_and_resolve_after_recovery(tmp_path: Path) -> None:
    async with (
        incident_database() as incident_url,
        approval_database() as approval_url,
        tcp_proxy() as network,
        healthy_service(
            "approval", approval_url, variables={"APPROVAL_INCIDENT_TARGET": network.address}
        ) as approval,
        approvals_at(approval.address) as approvals,
    ):
        sources = f"incident={network.address},approval={approval.address}"
        async with gateway(sources) as address, running_prometheus(tmp_path / "prometheus", address) as seen:
            async with healthy_service("incident", incident_url, variables=VARIABLES) as incident:
                network.target = incident.address
                await all_series_are_scraped(seen)
                async with incidents_at(incident.address) as incidents:
                    ids = await stuck_more_and_more(incidents, seen)
                    noop = await approvals.approved(ids[0])
                incident.send(signal.SIGKILL)
                await incident.ended()
                network.reset()

            # The incident service is down: that is alerted, and alerts that fired before do not resolve.
            assert (await seen.until_firing("FlywheelSourceDown"))["source"] == "incident"
            assert (await approvals.execute(noop.approval_id)).approval.state == State.STATE_SUCCEEDED
            await seen.until_firing("FlywheelNoopResolutionGap")
            assert await seen.query("awoooi_flywheel_incidents_stuck") == []
            await seen.until_only(
                "FlywheelIncidentsStuckGrowing", "FlywheelNoopResolutionGap", "FlywheelSourceDown"
            )

            # It is back: the resolve is delivered, and the operator resolves the others.
            async with healthy_service("incident", incident_url, variables=VARIABLES) as incident:
                network.target = incident.address
                await seen.until_over("FlywheelSourceDown")
                await seen.until_over("FlywheelNoopResolutionGap")
                assert (await approvals.until_delivered(noop.approval_id)).state == State.STATE_SUCCEEDED
                async with incidents_at(incident.address) as incidents:
                    await resolve_all(incidents, ids)
                await seen.until_over("FlywheelIncidentsStuckGrowing")
                await seen.until_only()

            # The rate was withheld all the time, and never alerted as missing.
            assert await seen.query("max_over_time(awoooi_flywheel_execution_samples[1h]) > 0") == []
            assert await seen.query(f"count_over_time({RATE}[1h])") == []
            missing = 'count_over_time(ALERTS{alertname="FlywheelExecutionRateMissing"}[1h])'
            assert await seen.query(missing) == []


async def all_series_are_scraped(seen: Prometheus) -> None:
    """Wait until every exported series except the withheld rates is scraped, and all rules are evaluated."""
    expected = exported_series().keys() - WITHHELD

    async def missing() -> set[str]:
        return set(expected).difference(await seen.get("label/__name__/values"))

    await eventually(missing, lambda names: not names)
    await seen.until_firing("FlywheelWatchdog")
    groups = (await seen.get("rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == ALERTS
    assert {rule["health"] for rule in rules} == {"ok"}


@pytest.mark.slow
async def test_an_absent_gateway_and_a_missing_rate_are_alerted(tmp_path: Path) -> None:
    async with incident_database() as incident_url, healthy_service("incident", incident_url) as incident:
        # Without the approval service.
        sources = f"incident={incident.address}"
        async with gateway(sources) as address, running_prometheus(tmp_path / "first", address) as seen:
            await seen.until_only("FlywheelExecutionRateMissing")
        async with running_prometheus(tmp_path / "second", address) as seen:
            await seen.until_firing("FlywheelGatewayAbsent")
            await seen.until_only("FlywheelGatewayAbsent")
            async with gateway(sources, listen=address):
                await seen.until_over("FlywheelGatewayAbsent")


def test_accelerating_divides_every_duration_and_nothing_else() -> None:
    rules = "for: 10m\nexpr: x[30m] > 300 and y[1d] offset 1d\nsummary: 5m, in 24h"
    assert accelerated(rules) == "for: 10s\nexpr: x[30s] > 300 and y[1440s] offset 1440s\nsummary: 5m, in 24h"
