"""Readings of the sources as text that Prometheus reads."""

from collections.abc import Iterable, Iterator, Sequence

import structlog
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from metrics_gateway.exposition.catalogue import BUILD_INFO, SECTIONS, SOURCE, SOURCE_SERIES, VERSION
from metrics_gateway.sources.source import Reading

_log = structlog.get_logger()


class Exposition:
    """Turns readings into a registry, a fresh one for every scrape: nothing of an earlier one can stay in it."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._process = ProcessCollector(registry=None)
        self._disputes: set[tuple[str, str, str]] = set()

    def registry(self, readings: Sequence[Reading], *, with_process: bool) -> CollectorRegistry:
        """Return the flywheel series, and on request those of this process."""
        registry = CollectorRegistry()
        registry.register(_Families([*self._flywheel(readings), BUILD_INFO.family(self._build(), [VERSION])]))
        if with_process:
            registry.register(self._process)
        return registry

    def _flywheel(self, readings: Sequence[Reading]) -> Iterator[Metric]:
        for section in SECTIONS:
            stats = self._section(section.field, readings)
            if stats is not None:
                families = (series.family([((), stats)]) for series in section.series)
                yield from (family for family in families if family.samples)
        subjects = [((reading.source,), reading) for reading in readings]
        yield from (series.family(subjects, [SOURCE]) for series in SOURCE_SERIES)

    def _section(self, field: str, readings: Sequence[Reading]) -> Message | None:
        """Return the section of the source named first, of those that filled it: a series can have one value only."""
        answers: list[tuple[str, Message]] = [
            (reading.source, reading.answer) for reading in readings if reading.answer is not None
        ]
        filled = [(source, answer) for source, answer in answers if answer.HasField(field)]
        if not filled:
            return None
        (kept, answer), *others = filled
        for left_out, _ in others:
            self._dispute(field, kept, left_out)
        stats: Message = getattr(answer, field)
        return stats

    def _dispute(self, field: str, kept: str, left_out: str) -> None:
        if (field, kept, left_out) not in self._disputes:
            self._disputes.add((field, kept, left_out))
            _log.warning("flywheel_section_in_two_sources", section=field, kept=kept, left_out=left_out)

    def _build(self) -> Sequence[tuple[tuple[str, ...], str]]:
        return [((self._version,), self._version)]


def encode(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return the exposition and its content type, in the format that an Accept header asks for.

    Prometheus' text format when the header asks for nothing known, or is malformed.
    """
    try:
        encoder, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none
        encoder, content_type = choose_encoder("")
    return encoder(registry), content_type


class _Families:
    """The collector of one scrape."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
