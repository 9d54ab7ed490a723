"""The gateway over HTTP, its sources real gRPC servers that behave as they please."""

import asyncio
import socket

import grpc
import pytest
from google.protobuf.message import Message
from structlog.testing import capture_logs

from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as pb
from tests.metrics_gateway.honest_answers import READ_TIME, approval_answer, incident_answer
from tests.metrics_gateway.name_server import name_server
from tests.metrics_gateway.running_gateway import PATIENT, Arrivals, is_up, running_gateway
from tests.metrics_gateway.scrapes import Scrape
from tests.metrics_gateway.stats_server import (
    Answer,
    Context,
    StatsServer,
    always,
    never,
    refuse,
    stats_server,
)

# A scraper in a hurry: its deadline is over before a hung source could be waited for.
HURRIED = {"X-Prometheus-Scrape-Timeout-Seconds": "0.2"}


def up(scrape: Scrape) -> dict[str, float]:
    return {name: value for (name,), value in scrape.labelled("awoooi_flywheel_source_up").items()}


def errors(scrape: Scrape, source: str) -> dict[str, float]:
    """The reasons that were counted for a source."""
    found = scrape.labelled("awoooi_flywheel_source_errors_total")
    return {reason: count for (reason, name), count in found.items() if name == source and count}


def free_address() -> str:
    """An address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


async def test_with_both_sources_up_everything_arrives() -> None:
    async with (
        stats_server(always(incident_answer())) as incident,
        stats_server(always(approval_answer())) as approval,
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


async def test_a_dead_source_costs_its_own_series_only() -> None:
    async with (
        stats_server(always(approval_answer())) as approval,
        running_gateway({"incident": free_address(), "approval": approval.address}) as gateway,
    ):
        scrape = await gateway.scrape()
        assert up(scrape) == {"incident": 0, "approval": 1}
        assert errors(scrape, "incident") == {"unavailable": 1}
        assert scrape.value("awoooi_flywheel_source_last_success_timestamp_seconds", source="incident") == 0
        assert "awoooi_flywheel_incidents" not in scrape.names()
        assert "awoooi_flywheel_approvals" in scrape.names()


async def test_with_both_sources_dead_the_gateway_answers_and_says_so() -> None:
    async with running_gateway({"incident": free_address(), "approval": "no-such-host.invalid:1"}) as gateway:
        scrape = await gateway.scrape()
        assert up(scrape) == {"incident": 0, "approval": 0}
        assert "awoooi_flywheel_build_info" in scrape.names()
        assert "process_resident_memory_bytes" in scrape.names()


async def test_a_hung_source_is_not_waited_for_beyond_the_scrapes_own_deadline() -> None:
    async with (
        stats_server(never) as incident,
        stats_server(always(approval_answer())) as approval,
        running_gateway(
            {"incident": incident.address, "approval": approval.address}, default=0.1, hung_patience=0.01
        ) as gateway,
    ):
        # It never answers: that this returns is the proof.
        scrape = await gateway.scrape(**HURRIED)
        assert up(scrape) == {"incident": 0, "approval": 1}
        assert "awoooi_flywheel_incidents" not in scrape.names()
        await gateway.scrape_until(lambda scrape: errors(scrape, "incident") == {"deadline": 1})


async def test_a_port_that_accepts_and_says_nothing_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with running_gateway(
            {"incident": f"127.0.0.1:{silent.getsockname()[1]}"}, default=0.1
        ) as gateway:
            assert up(await gateway.scrape(**HURRIED)) == {"incident": 0}


async def test_a_source_that_hung_is_remembered_and_later_scrapes_do_not_pay_for_it() -> None:
    async with (
        stats_server(never) as incident,
        running_gateway({"incident": incident.address}, default=0.1, hung_patience=0.01) as gateway,
    ):
        await gateway.scrape(**HURRIED)
        await gateway.scrape_until(lambda scrape: errors(scrape, "incident") == {"deadline": 1})
        # These would wait half a minute. They return, and the request that the first of them sends is still hanging.
        assert up(await gateway.scrape(**PATIENT)) == {"incident": 0}
        await incident.was_asked_times(2)
        assert up(await gateway.scrape(**PATIENT)) == {"incident": 0}
        assert (len(incident.requests), incident.in_flight) == (2, 1)


async def test_a_source_that_hung_is_up_with_the_first_request_it_answers() -> None:
    async with (
        stats_server(never) as incident,
        running_gateway({"incident": incident.address}, default=0.1) as gateway,
    ):
        assert up(await gateway.scrape(**HURRIED)) == {"incident": 0}
        incident.answer = always(incident_answer())
        await gateway.scrape_until(is_up("incident"))
        assert len(incident.requests) == 2


async def test_a_source_that_recovers_too_slowly_for_one_scrape_is_up_with_a_later_one() -> None:
    async with (
        stats_server(never) as incident,
        running_gateway({"incident": incident.address}, default=0.1, hung_patience=0.0) as gateway,
    ):
        assert up(await gateway.scrape(**HURRIED)) == {"incident": 0}
        incident.answer = always(incident_answer())
        assert up(await gateway.scrape(**PATIENT)) == {"incident": 0}
        await gateway.scrape_until(is_up("incident"))


async def test_an_answer_after_the_deadline_is_not_shown_in_the_next_scrape() -> None:
    answer_now = asyncio.Event()
    answered = asyncio.Event()

    async def late(_: Context) -> Message | bytes:
        await answer_now.wait()
        answered.set()
        stale = incident_answer()
        stale.incidents.stuck = 1
        return stale

    async with (
        stats_server(late) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        # The caller gives up; its request goes on, for others who may be waiting for it.
        assert up(await gateway.scrape(**HURRIED)) == {"incident": 0}
        incident.answer = always(incident_answer())
        answer_now.set()
        await answered.wait()
        scrape = await gateway.scrape_until(
            lambda scrape: scrape.value("awoooi_flywheel_incidents_stuck") == 567
        )
        assert up(scrape) == {"incident": 1}
        # Late for one caller is no failure of the source.
        assert errors(scrape, "incident") == {}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(always(b"\xff\xff\xff\xff"), "invalid_answer", id="wrong bytes"),
        pytest.param(always(b""), "invalid_answer", id="no bytes"),
        pytest.param(always(approval_answer().SerializeToString()[:-3]), "invalid_answer", id="cut off"),
        pytest.param(
            always(pb.GetFlywheelStatsResponse(incidents=stats.IncidentStats(stuck=-1), read_time=READ_TIME)),
            "invalid_answer",
            id="a negative count",
        ),
        pytest.param(always(b"\x00" * (5 << 20)), "other", id="larger than a message may be"),
        pytest.param(refuse(grpc.StatusCode.UNAVAILABLE), "unavailable", id="no database"),
        pytest.param(refuse(grpc.StatusCode.UNIMPLEMENTED), "unimplemented", id="no figures there"),
        pytest.param(refuse(grpc.StatusCode.PERMISSION_DENIED), "permission", id="not allowed"),
        pytest.param(refuse(grpc.StatusCode.UNAUTHENTICATED), "permission", id="not known"),
        pytest.param(refuse(grpc.StatusCode.INTERNAL), "internal", id="a bug over there"),
        pytest.param(refuse(grpc.StatusCode.DEADLINE_EXCEEDED), "deadline", id="its own time limit"),
        pytest.param(refuse(grpc.StatusCode.RESOURCE_EXHAUSTED), "other", id="too busy"),
        pytest.param(refuse(grpc.StatusCode.CANCELLED), "other", id="broken off"),
    ],
)
async def test_a_source_that_fails_is_down_for_a_reason(answer: Answer, reason: str) -> None:
    async with (
        stats_server(answer) as incident,
        stats_server(always(approval_answer())) as approval,
        running_gateway({"incident": incident.address, "approval": approval.address}) as gateway,
    ):
        scrape = await gateway.scrape()
        assert up(scrape) == {"incident": 0, "approval": 1}
        assert errors(scrape, "incident") == {reason: 1}
        assert "awoooi_flywheel_incidents" not in scrape.names()


async def test_a_connection_that_is_reset_is_a_source_that_is_down() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        # Without this the peer would see an orderly end.
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, running_gateway({"incident": f"127.0.0.1:{port}"}) as gateway:
        scrape = await gateway.scrape()
        assert up(scrape) == {"incident": 0}
        assert errors(scrape, "incident") == {"unavailable": 1}


async def test_another_protocol_on_the_port_is_a_source_that_is_down() -> None:
    async def speak_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak_http, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, running_gateway({"incident": f"127.0.0.1:{port}"}) as gateway:
        assert up(await gateway.scrape()) == {"incident": 0}


async def test_a_source_that_breaks_off_in_the_middle_is_down_and_comes_back() -> None:
    async with (
        stats_server(never) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        scraping = asyncio.create_task(gateway.scrape())
        await incident.was_asked_times(1)
        await incident.stop()
        assert up(await scraping) == {"incident": 0}
        incident.answer = always(incident_answer())
        await incident.start()
        await gateway.scrape_until(is_up("incident"))


async def test_a_source_restarted_on_its_port_is_up_again() -> None:
    async with (
        stats_server(always(incident_answer())) as incident,
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
    incident = StatsServer(always(incident_answer()), port=port)
    async with running_gateway({"incident": incident.address}) as gateway:
        assert up(await gateway.scrape()) == {"incident": 0}
        await incident.start()
        try:
            await gateway.scrape_until(is_up("incident"))
        finally:
            await incident.stop()


async def test_a_source_that_says_it_is_not_serving_is_down() -> None:
    async with (
        stats_server(always(incident_answer())) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        await gateway.scrape_until(is_up("incident"))
        await incident.set_serving(serving=False)
        await gateway.scrape_until(lambda scrape: not is_up("incident")(scrape))
        await incident.set_serving(serving=True)
        await gateway.scrape_until(is_up("incident"))


async def test_all_replicas_behind_one_name_are_used_and_one_may_die() -> None:
    async with (
        stats_server(always(incident_answer())) as first,
        stats_server(always(incident_answer()), host="127.0.0.2", port=first.port) as second,
        name_server(first.host, second.host) as names,
        running_gateway({"incident": f"dns://{names}/incident.test:{first.port}"}) as gateway,
    ):
        await gateway.scrape_until(lambda _: bool(first.requests and second.requests))
        await first.stop()
        assert [up(await gateway.scrape()) for _ in range(5)] == [{"incident": 1}] * 5


async def test_two_hundred_scrapes_at_once_cost_one_collection() -> None:
    count = 200
    arrivals = Arrivals(count)

    async def when_everybody_waits(_: Context) -> Message | bytes:
        await arrivals.complete.wait()
        return incident_answer()

    async with (
        stats_server(when_everybody_waits) as incident,
        running_gateway({"incident": incident.address}, arrivals=arrivals) as gateway,
    ):
        scrapes = await asyncio.gather(*(gateway.scrape() for _ in range(count)))
        assert [up(scrape) for scrape in scrapes] == [{"incident": 1}] * count
        assert len(incident.requests) == 1
        # Shared while it was under way, and not a moment longer.
        await gateway.scrape()
        assert len(incident.requests) == 2


async def test_a_caller_that_goes_away_does_not_end_the_collection_of_the_others() -> None:
    go_on = asyncio.Event()
    arrivals = Arrivals(2)

    async def when_told(_: Context) -> Message | bytes:
        await go_on.wait()
        return incident_answer()

    async with (
        stats_server(when_told) as incident,
        running_gateway({"incident": incident.address}, arrivals=arrivals) as gateway,
    ):
        leaving = asyncio.create_task(gateway.scrape())
        await incident.was_asked_times(1)
        staying = asyncio.create_task(gateway.scrape())
        await arrivals.complete.wait()
        leaving.cancel()
        await asyncio.wait([leaving])
        go_on.set()
        assert up(await staying) == {"incident": 1}
        assert len(incident.requests) == 1


@pytest.mark.parametrize(
    ("header", "above", "at_most"),
    [
        pytest.param("20", 10.0, 19.5, id="what the scraper says, less the margin"),
        pytest.param("1e9", 19.5, 30.0, id="never longer than the longest"),
        pytest.param("nonsense", 0.0, 5.0, id="the default for what is no time"),
        pytest.param("0.001", 0.0, 5.0, id="the default for others' sake when the caller is in a hurry"),
    ],
)
async def test_the_source_is_told_the_scrapes_deadline(header: str, above: float, at_most: float) -> None:
    async with (
        stats_server(always(incident_answer())) as incident,
        running_gateway({"incident": incident.address}, default=5.0) as gateway,
    ):
        await gateway.scrape(**{"X-Prometheus-Scrape-Timeout-Seconds": header})
        await incident.was_asked_times(1)
        assert above < incident.deadlines[0] <= at_most


async def test_an_impatient_caller_does_not_make_the_source_look_ill_to_others() -> None:
    go_on = asyncio.Event()

    async def when_told(_: Context) -> Message | bytes:
        await go_on.wait()
        return incident_answer()

    arrivals = Arrivals(2)
    async with (
        stats_server(when_told) as incident,
        running_gateway({"incident": incident.address}, hung_patience=0.0, arrivals=arrivals) as gateway,
    ):
        assert up(await gateway.scrape(**HURRIED)) == {"incident": 0}
        patient = asyncio.create_task(gateway.scrape(**PATIENT))
        await arrivals.complete.wait()
        go_on.set()
        assert up(await patient) == {"incident": 1}


async def test_a_failing_source_is_logged_once_for_each_change() -> None:
    async with (
        stats_server(refuse(grpc.StatusCode.UNAVAILABLE)) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        with capture_logs() as logs:
            await gateway.scrape()
            await gateway.scrape()
            incident.answer = refuse(grpc.StatusCode.PERMISSION_DENIED)
            await gateway.scrape()
            await gateway.scrape()
            incident.answer = always(incident_answer())
            await gateway.scrape()
            await gateway.scrape()
        assert [(line["event"], line["source"], line.get("reason")) for line in logs if "source" in line] == [
            ("prometheus_metrics_flywheel_error", "incident", "unavailable"),
            ("prometheus_metrics_flywheel_error", "incident", "permission"),
            ("prometheus_metrics_flywheel_recovered", "incident", None),
        ]


async def test_errors_are_counted_for_each_attempt() -> None:
    async with (
        stats_server(refuse(grpc.StatusCode.INTERNAL)) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        await gateway.scrape()
        await gateway.scrape()
        assert errors(await gateway.scrape(), "incident") == {"internal": 3}
