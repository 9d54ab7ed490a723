"""A process's own metrics on a port of their own, for those who want them: its RPCs, and lines lost to its log."""

from collections.abc import Awaitable, Mapping

from prometheus_client import CollectorRegistry

from servicekit.http.tls import HttpTls
from servicekit.identity.authenticator import Authenticator


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
    # The web server takes long to import: only a process that uses it pays for it.
    from servicekit.http.metrics_server import (  # noqa: PLC0415 - as above
        open_metrics_server,
        serve_until_cancelled,
    )

    return {"metrics": serve_until_cancelled(open_metrics_server(address, registry, tls, authenticator))}
