"""The HTTP routes: metrics at two paths, health, and the page at `/`."""

import gzip
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from metrics_gateway.exposition.negotiation import accepts_gzip, choose_format
from metrics_gateway.exposition.registry import Exposition, encode
from metrics_gateway.page.handler import Page
from metrics_gateway.sources.deadlines import SCRAPE_TIMEOUT_HEADER, Deadlines
from metrics_gateway.sources.source import Sources

METRICS = "/metrics"
FLYWHEEL_METRICS = "/api/v1/stats/flywheel/metrics"
HEALTHY = "/-/healthy"
READY = "/-/ready"

# Higher levels take twice the time to save a tenth of the size.
_GZIP_LEVEL = 1
_UNCACHED = {"Cache-Control": "no-store", "Vary": "Accept, Accept-Encoding"}


class Endpoints:
    """The metrics handlers. Each request reads the sources; the response is 200 even when all are down.

    406 is for a client that refuses every format.
    """

    def __init__(self, sources: Sources, exposition: Exposition, deadlines: Deadlines) -> None:
        self._sources = sources
        self._exposition = exposition
        self._deadlines = deadlines

    async def metrics(self, request: Request) -> Response:
        """Return all series: the flywheel, its sources, this process."""
        return await self._scrape(request, with_process=True)

    async def flywheel_metrics(self, request: Request) -> Response:
        """Return the `awoooi_flywheel_*` series alone."""
        return await self._scrape(request, with_process=False)

    async def _scrape(self, request: Request, *, with_process: bool) -> Response:
        chosen = choose_format(_list_header(request, "Accept"))
        if chosen is None:
            return PlainTextResponse(
                "Not Acceptable", status_code=HTTPStatus.NOT_ACCEPTABLE, headers=_UNCACHED
            )
        deadline = self._deadlines.for_scrape(request.headers.get(SCRAPE_TIMEOUT_HEADER))
        readings = await self._sources.read(deadline)
        registry = self._exposition.registry(readings, with_process=with_process)
        body, content_type = encode(registry, chosen)
        headers = {"Content-Type": content_type, **_UNCACHED}
        if accepts_gzip(_list_header(request, "Accept-Encoding")):
            body = gzip.compress(body, compresslevel=_GZIP_LEVEL)
            headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers)


def _list_header(request: Request, name: str) -> str:
    return ",".join(request.headers.getlist(name))


async def _alive(_: Request) -> Response:
    # Ready as soon as it listens: a gateway without sources still reports that they are down.
    return PlainTextResponse("ok\n")


def build_app(endpoints: Endpoints, page: Page) -> Starlette:
    """Return the application: GET and HEAD on the paths above, 405 for other methods and 404 for other paths."""
    app = Starlette(
        routes=[
            Route(METRICS, endpoints.metrics),
            Route(FLYWHEEL_METRICS, endpoints.flywheel_metrics),
            Route(HEALTHY, _alive),
            Route(READY, _alive),
            Route("/", page.show),
        ]
    )
    # `/metrics/` is an unknown path, not another name.
    app.router.redirect_slashes = False
    return app
