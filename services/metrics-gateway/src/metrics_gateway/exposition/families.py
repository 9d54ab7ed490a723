"""The shapes a series can have: a figure, counts by closed labels, a distribution."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Generic, Literal, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from awoooi.flywheel.v1.flywheel_stats_pb2 import Histogram
from metrics_gateway.exposition.labels import AnyLabel, Label, OpenLabel

# What a series is read from: a section of an answer, a source's reading.
S = TypeVar("S")
Kind = Literal["gauge", "counter"]
# The thing a series is read from, with the values of the labels that say which one of several it is.
Subject = tuple[tuple[str, ...], S]

# The bound of a bucket as prometheus_client writes it, which is how it has to be quoted: "60.0" and not "60".
BUCKET = OpenLabel(
    "le", lambda value: value == "+Inf" or _is_written_bound(value), 'bounds such as "60.0" or "+Inf"'
)
# Which labels each series has, by its name as it is scraped.
Exported = Mapping[str, Sequence[AnyLabel]]


@dataclass(frozen=True)
class Figure(Generic[S]):
    """One number, or none: then there is no series."""

    kind: Kind
    name: str
    help: str
    value: Callable[[S], float | None]

    def family(self, subjects: Iterable[Subject[S]], subject_labels: Sequence[AnyLabel] = ()) -> Metric:
        """Return the series of all subjects; without samples when there is no number."""
        family = _new_family(self.kind, self.name, self.help, subject_labels)
        for subject, read_from in subjects:
            value = self.value(read_from)
            if value is not None:
                family.add_metric(subject, value)
        return family

    def exported(self, subject_labels: Sequence[AnyLabel] = ()) -> Exported:
        """Return the names and labels of what `family` gives."""
        return {self.name: subject_labels}


@dataclass(frozen=True)
class Counts(Generic[S]):
    """Numbers by closed labels. Every combination is there from the start, 0 if need be, so that none appears later."""

    kind: Kind
    name: str
    help: str
    labels: tuple[Label, ...]
    # Each count with what stands for its label values, one for each label.
    counts: Callable[[S], Iterable[tuple[tuple[Hashable, ...], float]]]

    def family(self, subjects: Iterable[Subject[S]], subject_labels: Sequence[AnyLabel] = ()) -> Metric:
        """Return the series of all subjects. What falls outside the closed sets is added up under `other`."""
        family = _new_family(self.kind, self.name, self.help, (*subject_labels, *self.labels))
        for subject, read_from in subjects:
            totals: dict[tuple[str, ...], float] = defaultdict(float)
            for values in product(*(label.values.values() for label in self.labels)):
                totals[values] = 0.0
            for keys, count in self.counts(read_from):
                totals[tuple(map(Label.value_of, self.labels, keys))] += count
            for values, total in totals.items():
                family.add_metric((*subject, *values), total)
        return family

    def exported(self, subject_labels: Sequence[AnyLabel] = ()) -> Exported:
        """Return the names and labels of what `family` gives."""
        return {self.name: (*subject_labels, *self.labels)}


@dataclass(frozen=True)
class Distribution(Generic[S]):
    """A histogram, or none."""

    name: str
    help: str
    histogram: Callable[[S], Histogram | None]

    def family(self, subjects: Iterable[Subject[S]], subject_labels: Sequence[AnyLabel] = ()) -> Metric:
        """Return the histograms of all subjects; without samples when there is none."""
        family = HistogramMetricFamily(self.name, self.help, labels=_names(subject_labels))
        for subject, read_from in subjects:
            histogram = self.histogram(read_from)
            if histogram is not None:
                buckets = [
                    (str(bucket.upper_bound), float(bucket.cumulative_count)) for bucket in histogram.buckets
                ]
                family.add_metric(subject, [*buckets, ("+Inf", histogram.count)], histogram.sum)
        return family

    def exported(self, subject_labels: Sequence[AnyLabel] = ()) -> Exported:
        """Return the names and labels of what `family` gives."""
        return {
            f"{self.name}_bucket": (*subject_labels, BUCKET),
            f"{self.name}_sum": subject_labels,
            f"{self.name}_count": subject_labels,
        }


Series = Figure[S] | Counts[S] | Distribution[S]


def _new_family(
    kind: Kind, name: str, documentation: str, labels: Sequence[AnyLabel]
) -> CounterMetricFamily | GaugeMetricFamily:
    family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    return family(name, documentation, labels=_names(labels))


def _names(labels: Iterable[AnyLabel]) -> Sequence[str]:
    return [label.name for label in labels]


def _is_written_bound(value: str) -> bool:
    try:
        return str(float(value)) == value
    except ValueError:
        return False
