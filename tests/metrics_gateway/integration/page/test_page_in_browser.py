"""The page in a real browser."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from tests.approval.schemas import approval_database, incident_database
from tests.callers import approvals_at, incidents_at
from tests.metrics_gateway.integration.page.chromium import DESKTOP_WIDTH, PHONE_WIDTH, Browser, chromium
from tests.metrics_gateway.integration.running_gateway import running_gateway
from tests.metrics_gateway.integration.stats_server import StatsServer, always, stats_server
from tests.metrics_gateway.page_responses import (
    approvals_empty,
    approvals_stuck,
    approvals_well,
    incidents_empty,
    incidents_stuck,
    incidents_well,
)
from tests.services import healthy_service

HOSTILE_TITLES = {
    "markup": "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">",
    "an attribute's end": "\" onmouseover='document.title=1' style=\"position:fixed;inset:0",
    "a template": "{{ 7 * 7 }} {% raw %} ${7*7}",
    "a very long word": "W" * 4_000,
    "right to left": "تعطل قاعدة البيانات منذ ساعتين",
    "an override of the direction": "\u202eexe.tnedicni\u2066 \u2067",
    "emoji": "🔥👩‍👩‍👧‍👦🏳️‍🌈" * 40,
    "marks above and below": "z̸̢̡̛̤̞̺̻͓̫̟̥͉̺̫̻̑̓̾̽̈́͒̾̋̎̚͝" * 30,
    "line breaks": "first\n\n\nsecond\u2028third\tfourth",
    "nothing at all": "",
}


@pytest.fixture(scope="module", name="browser")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@asynccontextmanager
async def page(
    incidents: GetFlywheelStatsResponse, approvals: GetFlywheelStatsResponse, *, refresh_seconds: int = 3_600
) -> AsyncIterator[tuple[str, StatsServer, StatsServer]]:
    """The page over two sources with these responses: its URL and the sources."""
    async with (
        stats_server(always(incidents)) as incident,
        stats_server(always(approvals)) as approval,
        running_gateway(
            {"incident": incident.address, "approval": approval.address}, refresh_seconds=refresh_seconds
        ) as gateway,
    ):
        yield f"{gateway.client.base_url}/", incident, approval


async def see(browser: Browser, url: str, **how: int | bool) -> None:
    """Open the page without blocking the event loop, in which the gateway runs."""
    await asyncio.to_thread(partial(browser.open, url, **how))  # type: ignore[arg-type] # as they are named there


LOOKS = {
    "well": (incidents_well, approvals_well),
    "stuck": (incidents_stuck, approvals_stuck),
    "empty": (incidents_empty, approvals_empty),
}
SCREENS = [
    pytest.param(width, dark, id=f"{device}, {'dark' if dark else 'light'}")
    for device, width in (("desktop", DESKTOP_WIDTH), ("phone", PHONE_WIDTH))
    for dark in (False, True)
]


async def test_a_healthy_loop_reads_all_is_well(browser: Browser) -> None:
    async with page(incidents_well(), approvals_well()) as (url, _, _):
        await see(browser, url)
        assert browser.text("h1") == "All is well"
        assert browser.title == "All is well · Flywheel"
        assert browser.texts(".chip") == ["incident up", "approval up"]
        assert browser.texts(".value") == ["94 %", "100 %", "0", "2", "0", "1", "1,204"]
        assert "No incident is stuck." in browser.text("#stuck")
        assert "SCALE deployment/api --replicas=3 -n prod" in browser.text("#approvals")
        assert browser.texts("#incident-hours .legend li") == ["opened 110", "resolved 114"]
        assert browser.ask("document.querySelectorAll('svg[role=img] rect:not(.hour)').length") > 60


async def test_566_stuck_incidents_are_the_headline(browser: Browser) -> None:
    async with page(incidents_stuck(), approvals_stuck()) as (url, _, _):
        await see(browser, url, width=PHONE_WIDTH, height=640)
        assert browser.text("h1") == "566 incidents are stuck"
        # Without scrolling, on a phone.
        assert browser.ask("document.querySelector('.verdict').getBoundingClientRect().top") < 160
        stuck = browser.text("#stuck")
        assert "executed, not resolved: 559" in stuck
        assert "INC-20260507-99ADF2" in stuck
        assert "12 more" in stuck
        assert len(browser.texts("#stuck tbody tr")) == 20
        assert "incident not found" in browser.text("#deliveries")
        assert "410 Gone" in browser.text("#side-effects")


async def test_a_withheld_rate_gives_the_reason_and_is_no_finding(browser: Browser) -> None:
    approvals = approvals_well()
    approvals.executions.ClearField("success_rate")
    approvals.executions.samples, approvals.executions.successes = 3, 1
    async with page(incidents_well(), approvals) as (url, _, _):
        await see(browser, url)
        assert browser.text("h1") == "All is well"
        assert browser.text(".tile").splitlines() == [
            "Success rate",
            "withheld",
            "3 of 10 repairs required in 24 h",
        ]


async def test_a_source_that_is_down_makes_its_sections_unknown_and_not_zero(browser: Browser) -> None:
    async with page(incidents_well(), approvals_well()) as (url, incident, _):
        await see(browser, url)
        await incident.stop()
        await see(browser, url)
        headline = browser.text("h1")
        assert headline.startswith("The incident service does not respond since ")
        unknown = "unknown: t" + headline[1:]
        for section in ("#stuck", "#side-effects", "#incident-hours"):
            assert unknown in browser.text(section)
        assert browser.texts(".value") == ["94 %", "100 %", "unknown", "2", "0", "unknown", "1,204"]
        assert "SCALE deployment/api" in browser.text("#approvals")
        assert browser.texts(".chip") == ["incident down", "approval up"]
        assert "down, does not respond" in browser.text("#sources")


async def test_an_empty_database_reads_well(browser: Browser) -> None:
    async with page(incidents_empty(), approvals_empty()) as (url, _, _):
        await see(browser, url)
        assert browser.text("h1") == "All is well"
        assert browser.texts(".value") == ["withheld", "none", "0", "0", "0", "0", "0"]
        for section in ("#incident-hours", "#execution-hours"):
            assert "Nothing in the last 24 hours." in browser.text(section)


@pytest.mark.parametrize("title", HOSTILE_TITLES.values(), ids=HOSTILE_TITLES.keys())
async def test_a_hostile_title_is_escaped_and_stays_within_its_cell(browser: Browser, title: str) -> None:
    incidents, approvals = incidents_stuck(), approvals_stuck()
    incidents.incidents.stuck_incidents[0].title = title
    approvals.approvals.pending[0].action = title
    approvals.deliveries.waiting[0].last_error = title
    incidents.side_effects.waiting[0].last_error = title
    async with page(incidents, approvals) as (url, _, _):
        for width in (PHONE_WIDTH, DESKTOP_WIDTH):
            await see(browser, url, width=width)
            assert browser.title == "566 incidents are stuck · Flywheel"
            assert (
                browser.ask("document.querySelectorAll('script, img, iframe, [onerror], [style]').length")
                == 0
            )
            assert browser.check("overflowing") == []
            assert browser.check("spilling") == []
            notes = browser.ask(
                "[...document.querySelectorAll('#stuck bdi.more')].map(each => each.textContent)"
            )
            shown = " ".join(title.split())
            assert not title.strip() or notes[0] == (shown if len(shown) <= 200 else shown[:199] + "…")
            # No text overlaps the rows above and below.
            cut = "[...document.querySelectorAll('bdi.more, .text')].every(e => e.offsetHeight < 60 && getComputedStyle(e).overflow === 'hidden')"
            assert browser.ask(cut)
    assert browser.console_lines() == []


@pytest.mark.parametrize(("width", "dark"), SCREENS)
@pytest.mark.parametrize("look", LOOKS)
async def test_text_has_contrast_and_nothing_overflows(
    browser: Browser, look: str, width: int, *, dark: bool
) -> None:
    incidents, approvals = LOOKS[look]
    async with page(incidents(), approvals()) as (url, incident, _):
        for is_down in (False, True):
            if is_down:
                await incident.stop()
            await see(browser, url, width=width, dark=dark)
            assert browser.check("numberOfSeenTexts") > 50
            assert browser.check("faintTexts") == []
            assert browser.check("numberOfShapes") > 2
            assert browser.check("faintShapes") == []
            assert browser.check("overflowing") == []
            assert browser.check("spilling") == []


async def test_light_and_dark_schemes_differ(browser: Browser) -> None:
    async with page(incidents_well(), approvals_well()) as (url, _, _):
        colours = []
        for dark in (False, True):
            await see(browser, url, dark=dark)
            colours.append(browser.ask("getComputedStyle(document.body).backgroundColor"))
        assert colours[0] != colours[1]


async def test_the_browser_requests_nothing_from_other_hosts(browser: Browser) -> None:
    async with page(incidents_stuck(), approvals_stuck()) as (url, _, _):
        await see(browser, "about:blank")
        browser.requests()
        await see(browser, url)
        requested = browser.requests()
        assert url in requested
        assert [each for each in requested if each != url and not each.startswith("data:")] == []
    assert browser.console_lines() == []


async def test_it_reloads_itself_without_scripts(browser: Browser) -> None:
    async with page(incidents_well(), approvals_well(), refresh_seconds=1) as (url, incident, _):
        await see(browser, url, scripts=False)
        assert browser.title == "All is well · Flywheel"
        incident.responder = always(incidents_stuck())
        await asyncio.to_thread(browser.until, lambda seen: seen.title.startswith("566 incidents are stuck"))
        # All content exists without scripts, folded rows included.
        assert len(browser.texts("#stuck tbody tr")) == 20
        assert browser.ask("document.scripts.length") == 0


async def test_a_paused_page_does_not_reload(browser: Browser) -> None:
    async with page(incidents_well(), approvals_well(), refresh_seconds=1) as (url, _, _):
        await see(browser, url)
        pause = browser.ask("[...document.links].find(each => each.innerText === 'Pause').href")
        await see(browser, pause)
        assert browser.ask("document.querySelectorAll('meta[http-equiv]').length") == 0
        assert browser.ask("[...document.links].find(each => each.innerText === 'Resume').href") == url


async def test_every_part_has_an_accessible_name(browser: Browser) -> None:
    async with page(incidents_stuck(), approvals_stuck()) as (url, _, _):
        await see(browser, url)
        assert browser.ask("document.documentElement.lang") == "en"
        for landmark in ("header", "main", "footer", "nav"):
            assert browser.ask(f"document.querySelectorAll('{landmark}').length") == 1
        assert browser.ask("document.querySelectorAll('h1').length") == 1
        nameless = {
            "sections": "[...document.querySelectorAll('section')].filter(e => !document.getElementById(e.getAttribute('aria-labelledby'))?.textContent.trim())",
            "tables": "[...document.querySelectorAll('table')].filter(e => !e.caption || [...e.querySelectorAll('th')].some(h => !h.scope || !h.textContent.trim()))",
            "drawings": "[...document.querySelectorAll('svg')].filter(e => e.ariaHidden !== 'true' && !(e.querySelector(':scope > title')?.textContent && e.querySelector(':scope > desc')?.textContent))",
            "links": "[...document.links].filter(e => !e.textContent.trim())",
            "places": "[...document.links].filter(e => e.hash && !document.querySelector(e.hash))",
        }
        for expression in nameless.values():
            assert browser.ask(f"({expression}).map(each => each.outerHTML.slice(0, 100))") == []
        assert browser.ask(
            "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"
        ) == browser.ask("document.querySelectorAll('[id]').length")


async def test_over_real_services_it_lists_the_stuck_incident(browser: Browser) -> None:
    title = HOSTILE_TITLES["markup"]
    async with (
        incident_database() as incident_url,
        approval_database() as approval_url,
        healthy_service("incident", incident_url, variables={"INCIDENT_STUCK_AFTER": "1ms"}) as incident,
        healthy_service(
            "approval", approval_url, variables={"APPROVAL_INCIDENT_TARGET": incident.address}
        ) as approval,
        incidents_at(incident.address) as incidents,
        approvals_at(approval.address) as approvals,
        running_gateway({"incident": incident.address, "approval": approval.address}) as gateway,
    ):
        url = f"{gateway.client.base_url}/"
        await see(browser, url)
        assert browser.text("h1") == "All is well"

        incident_id = await incidents.opened_id(title=title)
        proposed = await approvals.proposed(incident_id, "NO_ACTION: <b>observe</b>")
        await see(browser, url)
        assert browser.text("h1") == "1 incident is stuck"
        assert incident_id in browser.text("#stuck")
        assert title in browser.text("#stuck")
        assert proposed.approval_id in browser.text("#approvals")
        assert "NO_ACTION: <b>observe</b>" in browser.text("#approvals")
        assert browser.text("#incident-hours .legend li") == "opened 1"

        incident.send(signal.SIGKILL)
        await incident.ended()
        await see(browser, url)
        assert browser.text("h1").startswith("The incident service does not respond since ")
        assert "unknown: the incident service does not respond since " in browser.text("#stuck")
        assert proposed.approval_id in browser.text("#approvals")
