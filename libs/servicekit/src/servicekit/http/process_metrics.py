"""A process's own metrics on a port of their own, for those who want them: its RPCs, and lines lost to its log."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping

from prometheus_client import CollectorRegistry, make_asgi_app
from prometheus_client.core import CounterMetricFamily, Metric
from starlette.types import ASGIApp

from servicekit.http.admission import AllowedHosts
from servicekit.http.authentication import Authentication
from servicekit.http.limits import HttpLimits, HttpRefusals
from servicekit.http.readers import Readers
from servicekit.http.server import HttpServer
from servicekit.http.tls import HttpTls
from servicekit.identity.authenticator import Authenticator
from servicekit.process.log import suppressed_lines
from servicekit.process.log_stream import dropped_lines

# A scraper or two, and a person.
_LIMITS = HttpLimits(connections=100, connections_per_peer=50)
# Counts of RPCs are nothing that another site's page may not read.
_EVERY_HOST = AllowedHosts(["*"])
_DRAIN_SECONDS = 1.0


class LogCollector:
    """Counts the lines of this process's log that were dropped, and those that were not logged since they repeat others."""

    def collect(self) -> Iterable[Metric]:
        """Return `process_log_lines_dropped_total` and `log_suppressed_total`."""
        yield CounterMetricFamily(
            "process_log_lines_dropped",
            "Lines of this process's log that could not be written.",
            value=dropped_lines(),
        )
        suppressed = CounterMetricFamily(
            "log_suppressed",
            "Lines that were not logged, since there were too many of the same event within a minute.",
            labels=["event"],
        )
        for event, lines in suppressed_lines().items():
            suppressed.add_metric([event], lines)
        yield suppressed


def process_metrics(
    address: str | None,
    registry: CollectorRegistry,
    *,
    tls: HttpTls | None = None,
    authenticator: Authenticator | None = None,
) -> Mapping[str, Awaitable[None]]:
    """Return the background work that serves `registry` as `/metrics` on `address` until cancelled; none for None.

    With an `authenticator`, to those who may read. Raises CannotListenError.
    """
    if address is None:
        return {}
    refusals = HttpRefusals()
    app: ASGIApp = make_asgi_app(registry)
    if authenticator is not None:
        app = Authentication(app, Readers(authenticator).decide, refusals)
    registry.register(LogCollector())
    registry.register(refusals)
    server = HttpServer(
        app,
        address,
        drain_seconds=_DRAIN_SECONDS,
        refusals=refusals,
        hosts=_EVERY_HOST,
        limits=_LIMITS,
        tls=tls,
    )
    return {"metrics": _serve(server)}


async def _serve(server: HttpServer) -> None:
    stop = asyncio.Event()
    serving = asyncio.create_task(server.serve_until(stop))
    try:
        await asyncio.shield(serving)
    finally:
        stop.set()
        await serving
