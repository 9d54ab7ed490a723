"""The gateway on a real socket, in the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import httpx2
from starlette.types import ASGIApp, Receive, Scope, Send

from metrics_gateway.endpoints import Endpoints, build_app
from metrics_gateway.exposition.registry import Exposition
from metrics_gateway.page.handler import Page, PageTemplate
from metrics_gateway.server import HttpServer
from metrics_gateway.settings import SourceAddress
from metrics_gateway.sources.deadlines import Deadlines
from metrics_gateway.sources.source import Source, Sources
from tests.metrics_gateway.scrapes import Scrape, read_text

# For what must happen sooner or later and has no moment of its own; never met when all is well.
PATIENCE_SECONDS = 60.0
# A scraper that waits as long as it takes, so that only the gateway's own rules end the waiting.
PATIENT = {"X-Prometheus-Scrape-Timeout-Seconds": "1000"}


class Arrivals:
    """An event for the moment when a number of requests have come in."""

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
    """Talks to a gateway over HTTP."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def scrape(self, **headers: str) -> Scrape:
        """Scrape once; the answer is always 200."""
        answer = await self.client.get("/metrics", headers=headers or PATIENT)
        assert answer.status_code == httpx2.codes.OK, answer.text
        return read_text(answer.text)

    async def scrape_until(self, condition: Callable[[Scrape], bool]) -> Scrape:
        """Scrape again and again until one shows what is awaited."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition(scrape := await self.scrape()):
                pass
            return scrape


@asynccontextmanager
async def running_gateway(
    sources: Mapping[str, str],
    *,
    default: float = 30.0,
    longest: float = 30.0,
    hung_patience: float = 30.0,
    refresh_seconds: int = 3_600,
    arrivals: Arrivals | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway that asks `sources` (targets by name), until the block is left. Times are in seconds.

    Its page stays as it is, unless told to refresh itself.
    """
    asked = Sources(
        Source(SourceAddress(name, target), shortest_deadline=default, hung_patience=hung_patience)
        for name, target in sources.items()
    )
    deadlines = Deadlines(default=default, longest=longest, margin=0.5)
    template = PageTemplate(version="1.2.3", refresh_seconds=refresh_seconds)
    app = build_app(Endpoints(asked, Exposition("1.2.3"), deadlines), Page(asked, template, deadline=default))
    counted = arrivals.counted(app) if arrivals else app
    server = HttpServer(counted, "127.0.0.1:0", drain_seconds=PATIENCE_SECONDS)
    stop = asyncio.Event()
    serving = asyncio.create_task(server.serve_until(stop))
    limits = httpx2.Limits(max_connections=None)
    try:
        async with httpx2.AsyncClient(
            base_url=f"http://{server.address}", timeout=PATIENCE_SECONDS, limits=limits, trust_env=False
        ) as client:
            yield Gateway(client)
    finally:
        stop.set()
        await serving
        await asked.close()


def is_up(source: str) -> Callable[[Scrape], bool]:
    """The scrape says that the source is up."""
    return lambda scrape: scrape.value("awoooi_flywheel_source_up", source=source) == 1
