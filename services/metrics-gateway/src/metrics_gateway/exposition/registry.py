"""The metrics of one scrape, from the readings of the sources, and their encoding."""

from collections.abc import Iterable, Iterator, Sequence

import structlog
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from metrics_gateway.exposition.catalogue import BUILD_INFO, SECTIONS, SOURCE, SOURCE_FAMILIES, VERSION
from metrics_gateway.exposition.negotiation import DEFAULT, Format
from metrics_gateway.sources.reading import Reading, with_section
from servicekit.http.log_metrics import LogCollector

_log = structlog.get_logger()


class Exposition:
    """Turns readings into a registry, a new one for every scrape, so that no sample of an earlier one can remain."""

    def __init__(self, version: str, collectors: Sequence[Collector]) -> None:
        """`collectors` are of this process: of its server, and of its certificates."""
        self._version = version
        self._collectors = collectors
        self._process = ProcessCollector(registry=None)
        self._log = LogCollector()
        self._logged_conflicts: set[tuple[str, str, str]] = set()

    def registry(self, readings: Sequence[Reading], *, with_process: bool) -> CollectorRegistry:
        """Return the flywheel series, and on request those of this process."""
        registry = CollectorRegistry()
        build_info = BUILD_INFO.metric([((self._version,), self._version)], [VERSION])
        registry.register(_Collector([*self._flywheel(readings), build_info]))
        if with_process:
            registry.register(self._process)
            registry.register(self._log)
            for collector in self._collectors:
                registry.register(collector)
        return registry

    def _flywheel(self, readings: Sequence[Reading]) -> Iterator[Metric]:
        for section in SECTIONS:
            stats = self._section(section.field, readings)
            if stats is not None:
                metrics = (family.metric([((), stats)]) for family in section.families)
                yield from (metric for metric in metrics if metric.samples)
        subjects = [((reading.source,), reading) for reading in readings]
        about_sources = (family.metric(subjects, [SOURCE]) for family in SOURCE_FAMILIES)
        yield from (metric for metric in about_sources if metric.samples)

    def _section(self, field: str, readings: Sequence[Reading]) -> Message | None:
        """Return the section of the first source that filled it; None when no source did."""
        filled = with_section(readings, field)
        if not filled:
            return None
        (kept, response), *others = filled
        for left_out, _ in others:
            self._log_conflict(field, kept, left_out)
        stats: Message = getattr(response, field)
        return stats

    def _log_conflict(self, field: str, kept: str, left_out: str) -> None:
        if (field, kept, left_out) not in self._logged_conflicts:
            self._logged_conflicts.add((field, kept, left_out))
            _log.warning("flywheel_section_in_two_sources", section=field, kept=kept, left_out=left_out)


def encode(registry: CollectorRegistry, chosen: Format) -> tuple[bytes, str]:
    """Return the exposition in a format, and its content type."""
    encoder, content_type = choose_encoder("" if chosen == DEFAULT else str(chosen))
    return encoder(registry), content_type


class _Collector:
    """The metrics of one scrape, as a collector."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics
