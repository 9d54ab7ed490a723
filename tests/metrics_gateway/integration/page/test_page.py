"""The page over HTTP: its requests to the sources, its deadline, its headers."""

import asyncio
import re
import time
from base64 import b64encode
from hashlib import sha256

import pytest
from google.protobuf.message import Message

from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as pb
from metrics_gateway.settings import SourceAddress
from metrics_gateway.sources.source import Source, Sources
from tests.eventually import eventually
from tests.metrics_gateway.integration.running_gateway import Arrivals, Gateway, is_up, running_gateway
from tests.metrics_gateway.integration.stats_server import Context, always, never, stats_server
from tests.metrics_gateway.page_responses import approvals_well, incidents_well

FULL = pb.GetFlywheelStatsRequest.VIEW_FULL
BASIC = pb.GetFlywheelStatsRequest.VIEW_BASIC


async def headline(gateway: Gateway) -> str:
    found = re.search(r"<title>(.*) · Flywheel</title>", (await gateway.client.get("/")).text)
    assert found
    return found[1]


async def test_the_page_requests_the_full_view_and_a_scrape_the_basic_one() -> None:
    async with (
        stats_server(always(incidents_well())) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        await gateway.client.get("/")
        await gateway.scrape()
        assert [request.view for request in incident.requests] == [FULL, BASIC]


async def test_concurrent_pages_share_one_request_and_scrapes_another() -> None:
    count = 50
    arrivals = Arrivals(count + 1)

    async def when_all_have_arrived(_: Context) -> Message | bytes:
        await arrivals.complete.wait()
        return incidents_well()

    async with (
        stats_server(when_all_have_arrived) as incident,
        running_gateway({"incident": incident.address}, arrivals=arrivals) as gateway,
    ):
        asking = asyncio.gather(*(gateway.client.get("/") for _ in range(count)))
        scrape = await gateway.scrape()
        pages = await asking
        assert {page.status_code for page in pages} == {200}
        assert is_up("incident")(scrape)
        assert sorted(request.view for request in incident.requests) == [BASIC, FULL]


async def test_a_hung_source_delays_the_page_only_until_the_deadline() -> None:
    async with (
        stats_server(never) as incident,
        stats_server(always(approvals_well())) as approval,
        running_gateway(
            {"incident": incident.address, "approval": approval.address}, default=0.1, hung_timeout=0.01
        ) as gateway,
    ):
        # The source never responds: the proof is that this returns. On a busy machine the other one may be late, too.
        shown = await eventually(lambda: _page(gateway), lambda found: "SCALE deployment/api" in found)
        assert "unknown:</b> the incident service does not respond in time since " in shown
        assert "<title>The incident service does not respond in time since " in shown


async def _page(gateway: Gateway) -> str:
    return (await gateway.client.get("/")).text


async def _shows(gateway: Gateway, path: str, text: str) -> bool:
    return text in (await gateway.client.get(path)).text


_HUNG_PAGE = ("/", "The incident service does not respond in time since ")
_HUNG_SCRAPE = ("/metrics", 'awoooi_flywheel_source_errors_total{reason="deadline",source="incident"} 1.0')
_DOWN_SCRAPE = ("/metrics", 'awoooi_flywheel_source_up{source="incident"} 0.0')


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(_HUNG_PAGE, _DOWN_SCRAPE, id="hung for the page"),
        pytest.param(_HUNG_SCRAPE, _HUNG_PAGE, id="hung for a scrape"),
    ],
)
async def test_the_page_and_scrapes_share_the_circuit_breaker(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    async with (
        stats_server(never) as incident,
        running_gateway({"incident": incident.address}, default=0.1, hung_timeout=0.0) as gateway,
    ):
        await eventually(lambda: _shows(gateway, *first))
        # It would respond now, but the circuit breaker does not wait for it.
        incident.responder = always(incidents_well())
        assert await _shows(gateway, *second)


async def test_a_source_that_recovers_is_shown_with_its_stats() -> None:
    async with (
        stats_server(always(incidents_well())) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        await incident.stop()
        assert (await headline(gateway)).startswith("The incident service does not respond since ")
        await incident.start()
        await gateway.scrape_until(is_up("incident"))
        assert not (await headline(gateway)).startswith("The incident service")


async def test_since_is_the_time_of_the_first_success_or_failure() -> None:
    async with stats_server(always(incidents_well())) as server:
        source = Source(SourceAddress("incident", server.address), min_deadline=30.0, hung_timeout=30.0)
        sources = Sources([source])

        async def seen() -> tuple[bool, float]:
            (reading,) = await sources.read(30.0, FULL)
            assert (reading.failing is None) is (reading.response is not None)
            return reading.response is not None, reading.since_timestamp

        started = time.time()
        up = await seen()
        assert up[0]
        assert started <= up[1] <= time.time()
        assert await seen() == up

        await server.stop()
        stopped = time.time()
        down = await seen()
        assert not down[0]
        assert stopped <= down[1] <= time.time()
        assert await seen() == down

        await server.start()
        again = await eventually(seen, lambda found: found[0])
        assert again[1] > down[1]
        await sources.close()


async def test_security_headers_forbid_caching_framing_and_injected_content() -> None:
    async with running_gateway({"incident": "no-such-host.invalid:1"}) as gateway:
        page = await gateway.client.get("/")
        (style,) = re.findall(r"<style>(.*?)</style>", page.text, flags=re.DOTALL)
        digest = b64encode(sha256(style.encode()).digest()).decode()
        assert page.headers["Content-Security-Policy"].split("; ") == [
            "default-src 'none'",
            f"style-src 'sha256-{digest}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"


async def test_every_link_is_local_and_works() -> None:
    async with running_gateway({"incident": "no-such-host.invalid:1"}) as gateway:
        page = (await gateway.client.get("/")).text
        links = {link for link in re.findall(r' (?:href|src|action)="([^"]*)"', page) if link[:1] not in "#d"}
        assert {"/metrics", "/api/v1/stats/flywheel/metrics", "/-/healthy", "/-/ready"} < links
        for link in links:
            assert not link.startswith("//")
            assert (await gateway.client.get(f"/{link}" if link[0] == "?" else link)).status_code == 200


@pytest.mark.parametrize(
    ("query", "refreshes"),
    [
        pytest.param("", True, id="no parameter"),
        pytest.param("?refresh=off", False, id="off"),
        pytest.param("?refresh=%00&x=<script>", True, id="an invalid value"),
    ],
)
async def test_the_page_reloads_itself_unless_refresh_is_off(query: str, *, refreshes: bool) -> None:
    async with running_gateway({"incident": "no-such-host.invalid:1"}, refresh_seconds=15) as gateway:
        page = (await gateway.client.get(f"/{query}")).text
        assert ('<meta http-equiv="refresh" content="15">' in page) is refreshes
        assert "<script" not in page
