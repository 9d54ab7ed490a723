"""A process's own metrics on a port of their own, for those who want them: its RPCs, and lines lost to its log."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, Metric

from servicekit.process.addresses import require_loopback
from servicekit.process.log_stream import dropped_lines


class LogCollector:
    """Counts the lines of this process's log that were dropped."""

    def collect(self) -> Iterable[Metric]:
        """Return `process_log_lines_dropped_total`."""
        yield CounterMetricFamily(
            "process_log_lines_dropped",
            "Lines of this process's log that could not be written.",
            value=dropped_lines(),
        )


def serve_process_metrics(address: str | None, registry: CollectorRegistry, *, insecure: bool) -> None:
    """Serve `registry` as `/metrics` on `address` in a thread until the process ends; do nothing for None.

    Raises ExposedWithoutAuthenticationError when `address` is not loopback and `insecure` is not set.
    """
    if address is None:
        return
    require_loopback(address, insecure=insecure)
    registry.register(LogCollector())
    host, _, port = address.rpartition(":")
    start_http_server(int(port), addr=host.strip("[]"), registry=registry)
