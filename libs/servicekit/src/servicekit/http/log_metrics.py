"""Lines lost to the log of this process, as series."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, Metric

from servicekit.process.log import suppressed_lines
from servicekit.process.log_stream import dropped_lines


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
