"""Scrapes over HTTP with real gRPC servers as sources, healthy, slow and broken."""

import asyncio
import socket

import grpc
import pytest
from google.protobuf.message import Message
from structlog.testing import capture_logs

from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as pb
from tests.metrics_gateway.integration.running_gateway import Arrivals, errors, is_up, running_gateway, up
from tests.metrics_gateway.integration.sources.name_server import name_server
from tests.metrics_gateway.integration.stats_server import (
    Context,
    Responder,
    StatsServer,
    always,
    never,
    refuse,
    stats_server,
)
from tests.metrics_gateway.valid_responses import READ_TIME, approval_response, incident_response
from tests.tcp_server import tcp_server


def free_address() -> str:
    """An address without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


async def test_with_all_sources_up_all_series_are_exposed() -> None:
    async with (
        stats_server(always(incident_response())) as incident,
        stats_server(always(approval_response())) as approval,
        running_gateway({"incident": incident.address, "approval": approval.address}) as gateway,
    ):
        scrape = await gateway.scrape()
        assert up(scrape) == {"incident": 1, "approval": 1}
        assert scrape.value("awoooi_flywheel_incidents_stuck") == 567
        assert scrape.value("awoooi_flywheel_execution_success_rate") == 0.75
        assert (
            scrape.value("awoooi_flywheel_source_last_success_timestamp_seconds", source="incident") or 0
        ) > 0
        assert [request.view for request in incident.requests] == [pb.GetFlywheelStatsRequest.VIEW_BASIC]


async def test_a_source_that_is_down_removes_only_its_own_series() -> None:
    async with (
        stats_server(always(approval_response())) as approval,
        running_gateway({"incident": free_address(), "approval": approval.address}) as gateway,
    ):
        scrape = await gateway.scrape()
        assert up(scrape) == {"incident": 0, "approval": 1}
        assert errors(scrape, "incident") == {"unavailable": 1}
        assert scrape.value("awoooi_flywheel_source_last_success_timestamp_seconds", source="incident") == 0
        assert "awoooi_flywheel_incidents" not in scrape.names()
        assert "awoooi_flywheel_approvals" in scrape.names()


async def test_with_all_sources_down_the_scrape_succeeds_and_source_up_is_zero() -> None:
    async with running_gateway({"incident": free_address(), "approval": "no-such-host.invalid:1"}) as gateway:
        scrape = await gateway.scrape()
        assert up(scrape) == {"incident": 0, "approval": 0}
        assert "awoooi_flywheel_build_info" in scrape.names()
        assert "process_resident_memory_bytes" in scrape.names()


@pytest.mark.parametrize(
    ("responder", "reason"),
    [
        pytest.param(always(b"\xff\xff\xff\xff"), "invalid_answer", id="wrong bytes"),
        pytest.param(always(b""), "invalid_answer", id="no bytes"),
        pytest.param(always(approval_response().SerializeToString()[:-3]), "invalid_answer", id="cut off"),
        pytest.param(
            always(pb.GetFlywheelStatsResponse(incidents=stats.IncidentStats(stuck=-1), read_time=READ_TIME)),
            "invalid_answer",
            id="a negative count",
        ),
        pytest.param(always(b"\x00" * (5 << 20)), "other", id="over the message size limit"),
        pytest.param(refuse(grpc.StatusCode.UNAVAILABLE), "unavailable", id="no database"),
        pytest.param(refuse(grpc.StatusCode.UNIMPLEMENTED), "unimplemented", id="no stats service"),
        pytest.param(refuse(grpc.StatusCode.PERMISSION_DENIED), "permission", id="permission denied"),
        pytest.param(refuse(grpc.StatusCode.UNAUTHENTICATED), "permission", id="unauthenticated"),
        pytest.param(refuse(grpc.StatusCode.INTERNAL), "internal", id="internal error"),
        pytest.param(refuse(grpc.StatusCode.DEADLINE_EXCEEDED), "deadline", id="time limit of the source"),
        pytest.param(refuse(grpc.StatusCode.RESOURCE_EXHAUSTED), "other", id="overloaded"),
        pytest.param(refuse(grpc.StatusCode.CANCELLED), "other", id="cancelled"),
    ],
)
async def test_a_failing_source_is_down_with_the_reason_as_label(responder: Responder, reason: str) -> None:
    async with (
        stats_server(responder) as incident,
        stats_server(always(approval_response())) as approval,
        running_gateway({"incident": incident.address, "approval": approval.address}) as gateway,
    ):
        scrape = await gateway.scrape()
        assert up(scrape) == {"incident": 0, "approval": 1}
        assert errors(scrape, "incident") == {reason: 1}
        assert "awoooi_flywheel_incidents" not in scrape.names()


async def test_a_connection_reset_makes_the_source_down() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        # Without this the peer would see an orderly close.
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        writer.transport.abort()

    async with (
        tcp_server(reset) as server,
        running_gateway({"incident": f"127.0.0.1:{server.port}"}) as gateway,
    ):
        scrape = await gateway.scrape()
        assert up(scrape) == {"incident": 0}
        assert errors(scrape, "incident") == {"unavailable": 1}


async def test_another_protocol_on_the_port_makes_the_source_down() -> None:
    async def speak_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with (
        tcp_server(speak_http) as server,
        running_gateway({"incident": f"127.0.0.1:{server.port}"}) as gateway,
    ):
        assert up(await gateway.scrape()) == {"incident": 0}


async def test_a_source_that_stops_during_a_request_is_down_until_it_is_back() -> None:
    async with (
        stats_server(never) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        scraping = asyncio.create_task(gateway.scrape())
        await incident.received(1)
        await incident.stop()
        assert up(await scraping) == {"incident": 0}
        incident.responder = always(incident_response())
        await incident.start()
        await gateway.scrape_until(is_up("incident"))


async def test_a_source_restarted_on_its_port_is_up_again() -> None:
    async with (
        stats_server(always(incident_response())) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        assert up(await gateway.scrape()) == {"incident": 1}
        await incident.stop()
        down = await gateway.scrape()
        assert up(down) == {"incident": 0}
        assert "awoooi_flywheel_incidents" not in down.names()
        assert (
            down.value("awoooi_flywheel_source_last_success_timestamp_seconds", source="incident") or 0
        ) > 0
        await incident.start()
        scrape = await gateway.scrape_until(is_up("incident"))
        assert scrape.value("awoooi_flywheel_incidents_stuck") == 567


async def test_a_source_that_starts_after_the_gateway_is_found() -> None:
    port = int(free_address().rpartition(":")[2])
    incident = StatsServer(always(incident_response()), port=port)
    async with running_gateway({"incident": incident.address}) as gateway:
        assert up(await gateway.scrape()) == {"incident": 0}
        await incident.start()
        try:
            await gateway.scrape_until(is_up("incident"))
        finally:
            await incident.stop()


async def test_a_source_whose_health_is_not_serving_is_down() -> None:
    async with (
        stats_server(always(incident_response())) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        await gateway.scrape_until(is_up("incident"))
        await incident.set_serving(serving=False)
        await gateway.scrape_until(lambda scrape: not is_up("incident")(scrape))
        await incident.set_serving(serving=True)
        await gateway.scrape_until(is_up("incident"))


async def test_requests_are_balanced_over_replicas_and_survive_the_loss_of_one() -> None:
    async with (
        stats_server(always(incident_response())) as first,
        stats_server(always(incident_response()), host="127.0.0.2", port=first.port) as second,
        name_server(first.host, second.host) as names,
        running_gateway({"incident": f"dns://{names}/incident.test:{first.port}"}) as gateway,
    ):
        await gateway.scrape_until(lambda _: bool(first.requests and second.requests))
        await first.stop()
        assert [up(await gateway.scrape()) for _ in range(5)] == [{"incident": 1}] * 5


async def test_two_hundred_concurrent_scrapes_share_one_request() -> None:
    count = 200
    arrivals = Arrivals(count)

    async def when_all_have_arrived(_: Context) -> Message | bytes:
        await arrivals.complete.wait()
        return incident_response()

    async with (
        stats_server(when_all_have_arrived) as incident,
        running_gateway({"incident": incident.address}, arrivals=arrivals) as gateway,
    ):
        scrapes = await asyncio.gather(*(gateway.scrape() for _ in range(count)))
        assert [up(scrape) for scrape in scrapes] == [{"incident": 1}] * count
        assert len(incident.requests) == 1
        # Shared while in flight only.
        await gateway.scrape()
        assert len(incident.requests) == 2


async def test_a_cancelled_scrape_does_not_cancel_the_request_that_others_share() -> None:
    release = asyncio.Event()
    arrivals = Arrivals(2)

    async def when_released(_: Context) -> Message | bytes:
        await release.wait()
        return incident_response()

    async with (
        stats_server(when_released) as incident,
        running_gateway({"incident": incident.address}, arrivals=arrivals) as gateway,
    ):
        cancelled = asyncio.create_task(gateway.scrape())
        await incident.received(1)
        remaining = asyncio.create_task(gateway.scrape())
        await arrivals.complete.wait()
        cancelled.cancel()
        await asyncio.wait([cancelled])
        release.set()
        assert up(await remaining) == {"incident": 1}
        assert len(incident.requests) == 1


async def test_a_failing_source_is_logged_once_for_each_change() -> None:
    async with (
        stats_server(refuse(grpc.StatusCode.UNAVAILABLE)) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        with capture_logs() as logs:
            await gateway.scrape()
            await gateway.scrape()
            incident.responder = refuse(grpc.StatusCode.PERMISSION_DENIED)
            await gateway.scrape()
            await gateway.scrape()
            incident.responder = always(incident_response())
            await gateway.scrape()
            await gateway.scrape()
        assert [(line["event"], line["source"], line.get("reason")) for line in logs if "source" in line] == [
            ("prometheus_metrics_flywheel_error", "incident", "unavailable"),
            ("prometheus_metrics_flywheel_error", "incident", "permission"),
            ("prometheus_metrics_flywheel_recovered", "incident", None),
        ]


async def test_every_failed_request_is_counted() -> None:
    async with (
        stats_server(refuse(grpc.StatusCode.INTERNAL)) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        await gateway.scrape()
        await gateway.scrape()
        assert errors(await gateway.scrape(), "incident") == {"internal": 3}
