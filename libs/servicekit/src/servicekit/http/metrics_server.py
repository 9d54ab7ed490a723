"""The web server of a process's own metrics. Apart, since it is loaded by those alone who use it."""

import asyncio

from prometheus_client import CollectorRegistry, make_asgi_app
from starlette.types import ASGIApp

from servicekit.http.admission import AllowedHosts
from servicekit.http.authentication import Authentication
from servicekit.http.limits import HttpLimits, HttpRefusals
from servicekit.http.log_metrics import LogCollector
from servicekit.http.readers import Readers
from servicekit.http.server import HttpServer
from servicekit.http.tls import HttpTls
from servicekit.identity.authenticator import Authenticator

# A scraper or two, and a person.
_LIMITS = HttpLimits(connections=100, connections_per_peer=50)
# Counts of RPCs are nothing that another site's page may not read.
_EVERY_HOST = AllowedHosts(["*"])
_DRAIN_SECONDS = 1.0


def open_metrics_server(
    address: str, registry: CollectorRegistry, tls: HttpTls | None, authenticator: Authenticator | None
) -> HttpServer:
    """Return a server that listens on `address`. Raises CannotListenError."""
    refusals = HttpRefusals()
    app: ASGIApp = make_asgi_app(registry)
    if authenticator is not None:
        app = Authentication(app, Readers(authenticator).decide, refusals)
    registry.register(LogCollector())
    registry.register(refusals)
    return HttpServer(
        app,
        address,
        drain_seconds=_DRAIN_SECONDS,
        refusals=refusals,
        hosts=_EVERY_HOST,
        limits=_LIMITS,
        tls=tls,
    )


async def serve_until_cancelled(server: HttpServer) -> None:
    """Serve, and let requests in flight finish."""
    stop = asyncio.Event()
    serving = asyncio.create_task(server.serve_until(stop))
    try:
        await asyncio.shield(serving)
    finally:
        stop.set()
        await serving
