"""The gateway on a real socket, in the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import httpx2
from starlette.types import ASGIApp, Receive, Scope, Send

from metrics_gateway.endpoints import Endpoints, build_app
from metrics_gateway.exposition.registry import Exposition
from metrics_gateway.page.handler import Page, PageTemplate
from metrics_gateway.settings import SourceAddress
from metrics_gateway.sources.deadlines import Deadlines
from metrics_gateway.sources.source import Source, Sources
from servicekit.http.limits import HttpLimits, HttpRefusals
from servicekit.http.server import HttpServer
from tests.metrics_gateway.scrapes import Scrape, read_text
from tests.services import TIMEOUT_SECONDS

# A scraper with a very long timeout, so that only the gateway's own limits end the wait.
LONG_TIMEOUT = {"X-Prometheus-Scrape-Timeout-Seconds": "1000"}
# A scraper whose timeout is shorter than the request to a hung source.
SHORT_TIMEOUT = {"X-Prometheus-Scrape-Timeout-Seconds": "0.2"}


class Arrivals:
    """An event that is set when a number of requests have arrived."""

    def __init__(self, number: int) -> None:
        self._missing = number
        self.complete = asyncio.Event()

    def counted(self, app: ASGIApp) -> ASGIApp:
        """The application, its requests counted."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            self._missing -= 1
            if self._missing == 0:
                self.complete.set()
            await app(scope, receive, send)

        return application


class Gateway:
    """An HTTP client of a gateway."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def scrape(self, **headers: str) -> Scrape:
        """Scrape once; the response is always 200."""
        response = await self.client.get("/metrics", headers=headers or LONG_TIMEOUT)
        assert response.status_code == httpx2.codes.OK, response.text
        return read_text(response.text)

    async def scrape_until(self, condition: Callable[[Scrape], bool]) -> Scrape:
        """Scrape repeatedly until one fulfils the condition."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not condition(scrape := await self.scrape()):
                pass
            return scrape


@asynccontextmanager
async def running_gateway(
    sources: Mapping[str, str],
    *,
    default: float = 30.0,
    maximum: float = 30.0,
    hung_timeout: float = 30.0,
    refresh_seconds: int = 3_600,
    arrivals: Arrivals | None = None,
    limits: HttpLimits | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway that reads `sources` (targets by name), until the block ends. Times are in seconds.

    Its page stays as it is, unless it is set to refresh itself.
    """
    all_sources = Sources(
        Source(SourceAddress(name, target), min_deadline=default, hung_timeout=hung_timeout)
        for name, target in sources.items()
    )
    deadlines = Deadlines(default=default, maximum=maximum, margin=0.5)
    template = PageTemplate(version="1.2.3", refresh_seconds=refresh_seconds)
    refusals = HttpRefusals()
    app = build_app(
        Endpoints(all_sources, Exposition("1.2.3", [refusals]), deadlines),
        Page(all_sources, template, deadline=default),
    )
    counted = arrivals.counted(app) if arrivals else app
    server = HttpServer(
        counted, "127.0.0.1:0", drain_seconds=TIMEOUT_SECONDS, refusals=refusals, limits=limits
    )
    stop = asyncio.Event()
    serving = asyncio.create_task(server.serve_until(stop))
    try:
        async with httpx2.AsyncClient(
            base_url=f"http://{server.address}",
            timeout=TIMEOUT_SECONDS,
            limits=httpx2.Limits(max_connections=None),
            trust_env=False,
        ) as client:
            yield Gateway(client)
    finally:
        stop.set()
        await serving
        await all_sources.close()


def up(scrape: Scrape) -> dict[str, float]:
    """The value of `source_up` of every source."""
    return {name: value for (name,), value in scrape.labelled("awoooi_flywheel_source_up").items()}


def errors(scrape: Scrape, source: str) -> dict[str, float]:
    """The non-zero error counts of a source, by reason."""
    found = scrape.labelled("awoooi_flywheel_source_errors_total")
    return {reason: count for (reason, name), count in found.items() if name == source and count}


def is_up(source: str) -> Callable[[Scrape], bool]:
    """The condition that the source is up in a scrape."""
    return lambda scrape: scrape.value("awoooi_flywheel_source_up", source=source) == 1
