"""A process's own RPC metrics on a port of their own, for those who want them."""

from prometheus_client import CollectorRegistry, start_http_server

from servicekit.process.addresses import require_loopback


def serve_process_metrics(address: str | None, registry: CollectorRegistry, *, insecure: bool) -> None:
    """Serve `registry` as `/metrics` on `address` in a thread until the process ends; do nothing for None.

    Raises ExposedWithoutAuthenticationError when `address` is not loopback and `insecure` is not set.
    """
    if address is None:
        return
    require_loopback(address, insecure=insecure)
    host, _, port = address.rpartition(":")
    start_http_server(int(port), addr=host.strip("[]"), registry=registry)
