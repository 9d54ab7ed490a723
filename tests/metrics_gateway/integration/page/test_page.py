"""The page over HTTP: what it asks of the sources, how long it waits, and what it tells the browser."""

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
from tests.metrics_gateway.page_answers import approvals_well, incidents_well
from tests.metrics_gateway.running_gateway import Arrivals, Gateway, is_up, running_gateway
from tests.metrics_gateway.stats_server import Context, always, never, stats_server

FULL = pb.GetFlywheelStatsRequest.VIEW_FULL
BASIC = pb.GetFlywheelStatsRequest.VIEW_BASIC


async def headline(gateway: Gateway) -> str:
    found = re.search(r"<title>(.*) · Flywheel</title>", (await gateway.client.get("/")).text)
    assert found
    return found[1]


async def test_the_page_asks_for_everything_and_a_scrape_for_what_it_needs() -> None:
    async with (
        stats_server(always(incidents_well())) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        await gateway.client.get("/")
        await gateway.scrape()
        assert [request.view for request in incident.requests] == [FULL, BASIC]


async def test_pages_at_once_share_one_request_and_scrapes_have_their_own() -> None:
    count = 50
    arrivals = Arrivals(count + 1)

    async def when_everybody_waits(_: Context) -> Message | bytes:
        await arrivals.complete.wait()
        return incidents_well()

    async with (
        stats_server(when_everybody_waits) as incident,
        running_gateway({"incident": incident.address}, arrivals=arrivals) as gateway,
    ):
        asking = asyncio.gather(*(gateway.client.get("/") for _ in range(count)))
        scrape = await gateway.scrape()
        pages = await asking
        assert {page.status_code for page in pages} == {200}
        assert is_up("incident")(scrape)
        assert sorted(request.view for request in incident.requests) == [BASIC, FULL]


async def test_a_hung_source_is_not_waited_for_and_costs_its_own_sections() -> None:
    async with (
        stats_server(never) as incident,
        stats_server(always(approvals_well())) as approval,
        running_gateway(
            {"incident": incident.address, "approval": approval.address}, default=0.1, hung_patience=0.01
        ) as gateway,
    ):
        # It never answers: that this returns is the proof.
        assert (await headline(gateway)).startswith("The incident service does not answer in time since ")
        page = (await gateway.client.get("/")).text
        assert "unknown:</b> the incident service does not answer in time since " in page
        assert "SCALE deployment/api" in page


async def _shows(gateway: Gateway, path: str, text: str) -> bool:
    return text in (await gateway.client.get(path)).text


_HUNG_PAGE = ("/", "The incident service does not answer in time since ")
_HUNG_SCRAPE = ("/metrics", 'awoooi_flywheel_source_errors_total{reason="deadline",source="incident"} 1.0')
_DOWN_SCRAPE = ("/metrics", 'awoooi_flywheel_source_up{source="incident"} 0.0')


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(_HUNG_PAGE, _DOWN_SCRAPE, id="hung for the page"),
        pytest.param(_HUNG_SCRAPE, _HUNG_PAGE, id="hung for a scrape"),
    ],
)
async def test_the_page_and_scrapes_have_one_memory_of_a_source_that_hung(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    async with (
        stats_server(never) as incident,
        running_gateway({"incident": incident.address}, default=0.1, hung_patience=0.0) as gateway,
    ):
        await eventually(lambda: _shows(gateway, *first))
        # Now it would answer, but who asks next waits no time at all for it.
        incident.answer = always(incidents_well())
        assert await _shows(gateway, *second)


async def test_a_source_that_comes_back_is_shown_with_its_figures() -> None:
    async with (
        stats_server(always(incidents_well())) as incident,
        running_gateway({"incident": incident.address}) as gateway,
    ):
        await incident.stop()
        assert (await headline(gateway)).startswith("The incident service does not answer since ")
        await incident.start()
        await gateway.scrape_until(is_up("incident"))
        assert not (await headline(gateway)).startswith("The incident service")


async def test_since_when_a_source_is_up_or_down_is_when_that_was_first_seen() -> None:
    async with stats_server(always(incidents_well())) as server:
        source = Source(SourceAddress("incident", server.address), shortest_deadline=30.0, hung_patience=30.0)
        sources = Sources([source])

        async def seen() -> tuple[bool, float]:
            (reading,) = await sources.read(30.0, FULL)
            assert (reading.failing is None) is (reading.answer is not None)
            return reading.answer is not None, reading.since_timestamp

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


async def test_nobody_keeps_the_page_frames_it_or_adds_to_it() -> None:
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


async def test_every_link_leads_to_the_gateway_itself_and_there() -> None:
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
        pytest.param("", True, id="nothing said"),
        pytest.param("?refresh=off", False, id="off"),
        pytest.param("?refresh=%00&x=<script>", True, id="nonsense"),
    ],
)
async def test_the_page_refreshes_itself_unless_told_not_to(query: str, *, refreshes: bool) -> None:
    async with running_gateway({"incident": "no-such-host.invalid:1"}, refresh_seconds=15) as gateway:
        page = (await gateway.client.get(f"/{query}")).text
        assert ('<meta http-equiv="refresh" content="15">' in page) is refreshes
        assert "<script" not in page
