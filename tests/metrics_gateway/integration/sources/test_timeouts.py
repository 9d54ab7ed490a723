"""Timeouts: hung sources, the circuit breaker, and the propagation of deadlines."""

import asyncio
import socket

import pytest
from google.protobuf.message import Message

from tests.metrics_gateway.integration.running_gateway import (
    LONG_TIMEOUT,
    SHORT_TIMEOUT,
    Arrivals,
    errors,
    is_up,
    running_gateway,
    up,
)
from tests.metrics_gateway.integration.stats_server import Context, always, never, stats_server
from tests.metrics_gateway.valid_responses import approval_response, incident_response


async def test_a_hung_source_delays_a_scrape_no_longer_than_its_deadline() -> None:
    async with (
        stats_server(never) as incident,
        stats_server(always(approval_response())) as approval,
        running_gateway(
            {"incident": incident.address, "approval": approval.address}, default=0.1, hung_timeout=0.01
        ) as gateway,
    ):
        # The source never responds: the proof is that this returns.
        scrape = await gateway.scrape(**SHORT_TIMEOUT)
        assert up(scrape) == {"incident": 0, "approval": 1}
        assert "awoooi_flywheel_incidents" not in scrape.names()
        await gateway.scrape_until(lambda scrape: errors(scrape, "incident") == {"deadline": 1})


async def test_a_port_that_accepts_and_never_responds_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with running_gateway(
            {"incident": f"127.0.0.1:{silent.getsockname()[1]}"}, default=0.1
        ) as gateway:
            assert up(await gateway.scrape(**SHORT_TIMEOUT)) == {"incident": 0}


async def test_circuit_breaker_after_a_timeout_later_scrapes_wait_only_briefly() -> None:
    async with (
        stats_server(never) as incident,
        running_gateway({"incident": incident.address}, default=0.1, hung_timeout=0.01) as gateway,
    ):
        await gateway.scrape(**SHORT_TIMEOUT)
        await gateway.scrape_until(lambda scrape: errors(scrape, "incident") == {"deadline": 1})
        # Without the circuit breaker these would wait half a minute. The request that the first one sends still hangs.
        assert up(await gateway.scrape(**LONG_TIMEOUT)) == {"incident": 0}
        await incident.received(2)
        assert up(await gateway.scrape(**LONG_TIMEOUT)) == {"incident": 0}
        assert (len(incident.requests), incident.in_flight) == (2, 1)


async def test_circuit_breaker_closes_with_the_first_response() -> None:
    async with (
        stats_server(never) as incident,
        running_gateway({"incident": incident.address}, default=0.1) as gateway,
    ):
        assert up(await gateway.scrape(**SHORT_TIMEOUT)) == {"incident": 0}
        incident.responder = always(incident_response())
        await gateway.scrape_until(is_up("incident"))
        assert len(incident.requests) == 2


async def test_a_source_that_recovers_too_slowly_for_one_scrape_is_up_in_a_later_one() -> None:
    async with (
        stats_server(never) as incident,
        running_gateway({"incident": incident.address}, default=0.1, hung_timeout=0.0) as gateway,
    ):
        assert up(await gateway.scrape(**SHORT_TIMEOUT)) == {"incident": 0}
        incident.responder = always(incident_response())
        assert up(await gateway.scrape(**LONG_TIMEOUT)) == {"incident": 0}
        await gateway.scrape_until(is_up("incident"))


async def test_a_response_after_the_deadline_is_not_reused_by_the_next_scrape() -> None:
    release = asyncio.Event()
    responded = asyncio.Event()

    async def late(_: Context) -> Message | bytes:
        await release.wait()
        responded.set()
        stale = incident_response()
        stale.incidents.stuck = 1
        return stale

    async with (
        stats_server(late) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        # The scrape times out; its request continues, for others that may share it.
        assert up(await gateway.scrape(**SHORT_TIMEOUT)) == {"incident": 0}
        incident.responder = always(incident_response())
        release.set()
        await responded.wait()
        scrape = await gateway.scrape_until(
            lambda scrape: scrape.value("awoooi_flywheel_incidents_stuck") == 567
        )
        assert up(scrape) == {"incident": 1}
        # A timeout of one scrape is not a failure of the source.
        assert errors(scrape, "incident") == {}


@pytest.mark.parametrize(
    ("header", "above", "at_most"),
    [
        pytest.param("20", 10.0, 19.5, id="timeout less the margin"),
        pytest.param("1e9", 19.5, 30.0, id="capped by the maximum"),
        pytest.param("soon", 0.0, 5.0, id="the default for an invalid value"),
        pytest.param("0.001", 0.0, 5.0, id="not below the default"),
    ],
)
async def test_the_deadline_of_the_scrape_is_propagated_to_the_source(
    header: str, above: float, at_most: float
) -> None:
    async with (
        stats_server(always(incident_response())) as incident,
        running_gateway({"incident": incident.address}, default=5.0) as gateway,
    ):
        await gateway.scrape(**{"X-Prometheus-Scrape-Timeout-Seconds": header})
        await incident.received(1)
        assert above < incident.deadlines[0] <= at_most


async def test_a_scrape_with_a_short_timeout_does_not_make_the_source_down_for_others() -> None:
    release = asyncio.Event()

    async def when_released(_: Context) -> Message | bytes:
        await release.wait()
        return incident_response()

    arrivals = Arrivals(2)
    async with (
        stats_server(when_released) as incident,
        running_gateway({"incident": incident.address}, hung_timeout=0.0, arrivals=arrivals) as gateway,
    ):
        assert up(await gateway.scrape(**SHORT_TIMEOUT)) == {"incident": 0}
        slow = asyncio.create_task(gateway.scrape(**LONG_TIMEOUT))
        await arrivals.complete.wait()
        release.set()
        assert up(await slow) == {"incident": 1}
