"""Parses scrapes with the parsers of prometheus_client."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Scrape:
    """All samples of one scrape, and their families."""

    families: Mapping[str, Metric]
    samples: Mapping[tuple[str, Labels], float]

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one series; None when it is absent."""
        return self.samples.get((name, tuple(sorted(labels.items()))))

    def labelled(self, name: str) -> dict[tuple[str, ...], float]:
        """All series of a name by their label values, labels in alphabetical order."""
        return {
            tuple(value for _, value in labels): sample
            for (sample_name, labels), sample in self.samples.items()
            if sample_name == name
        }

    def names(self) -> set[str]:
        """The names of all series."""
        return {name for name, _ in self.samples}


def read_text(text: str) -> Scrape:
    """Read Prometheus' text format."""
    return _scrape(parse_text(text))


def read_openmetrics(text: str) -> Scrape:
    """Read OpenMetrics; the parser also validates the format."""
    return _scrape(parse_openmetrics(text))  # type: ignore[no-untyped-call] # it has no annotations


def _scrape(parsed: Iterable[Metric]) -> Scrape:
    families: dict[str, Metric] = {}
    samples: dict[tuple[str, Labels], float] = {}
    for family in parsed:
        assert family.name not in families, f"{family.name} comes twice"
        families[family.name] = family
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, f"{key} comes twice"
            samples[key] = sample.value
    return Scrape(families, samples)
