"""A caller that is refused again and again fills no disk: its lines are sampled, and what is left out is counted."""

import asyncio
import signal

import grpc
import httpx2
import pytest

from awoooi.client import CallError
from tests.callers import Incidents, incidents_at
from tests.incident.incidents import HUMAN
from tests.services import TIMEOUT_SECONDS, ServiceProcess, healthy_service

CALLS, AT_A_TIME = 400, 100


async def refuse_many(incidents: Incidents, first: int) -> set[object]:
    """Resolve incidents that do not exist; returns how that was refused."""
    calls = [
        incidents.resolve(f"INC-20260507-{number:06X}", resolution_type=HUMAN)
        for number in range(first, first + AT_A_TIME)
    ]
    refusals = await asyncio.gather(*calls, return_exceptions=True)
    return {refusal.code for refusal in refusals if isinstance(refusal, CallError)}


async def test_resolves_of_unknown_ids_cost_so_many_lines_and_a_count(database: str) -> None:
    variables = {"INCIDENT_METRICS_LISTEN": "127.0.0.1:0"}
    async with healthy_service("incident", database, variables=variables) as service:
        async with incidents_at(service.address) as incidents:
            refusals = [await refuse_many(incidents, first) for first in range(0, CALLS, AT_A_TIME)]
        assert set().union(*refusals) == {grpc.StatusCode.NOT_FOUND}
        async with httpx2.AsyncClient(trust_env=False, timeout=TIMEOUT_SECONDS) as client:
            metrics = await client.get(f"http://{metrics_address(service)}/metrics")
        service.send(signal.SIGTERM)
        assert await service.ended() == 0
        logged = len(service.events("incident_not_found_for_resolve"))
        # A hundred a minute; on a slow machine the calls may take more than one.
        assert logged == 100 or (logged % 100 == 0 and logged < CALLS)
        assert sum(line["lines"] for line in service.events("suppressed")) == CALLS - logged
        (line,) = [line for line in metrics.text.splitlines() if line.startswith("log_suppressed_total{")]
        assert line == f'log_suppressed_total{{event="incident_not_found_for_resolve"}} {CALLS - logged}.0'


def metrics_address(service: ServiceProcess) -> str:
    """Where the service's own metrics are."""
    addresses = [event["address"] for event in service.events("serving")]
    if len(addresses) != 2:
        pytest.fail(f"not two addresses: {addresses}")
    address: str = addresses[1]
    return address
