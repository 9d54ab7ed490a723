"""Metric families of three kinds: a single value, counts by closed labels, a histogram."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Generic, Literal, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from awoooi.flywheel.v1.flywheel_stats_pb2 import Histogram
from metrics_gateway.exposition.labels import AnyLabel, BucketLabel, Label

# What a family is computed from: a section of a response, a reading of a source.
S = TypeVar("S")
Kind = Literal["gauge", "counter"]
# One of the things that a family covers, such as a source: the values of its identifying labels, and its data.
Subject = tuple[tuple[str, ...], S]

# The labels of each series, by its name as it is scraped.
Exported = Mapping[str, Sequence[AnyLabel]]


@dataclass(frozen=True)
class ValueFamily(Generic[S]):
    """One number. No series when there is no number."""

    kind: Kind
    name: str
    help: str
    value: Callable[[S], float | None]

    def metric(self, subjects: Iterable[Subject[S]], subject_labels: Sequence[AnyLabel] = ()) -> Metric:
        """Return the samples of all subjects; none for a subject without a number."""
        metric = _new_metric(self.kind, self.name, self.help, subject_labels)
        for subject, data in subjects:
            value = self.value(data)
            if value is not None:
                metric.add_metric(subject, value)
        return metric

    def exported(self, subject_labels: Sequence[AnyLabel] = ()) -> Exported:
        """Return the names and labels of the series in `metric`."""
        return {self.name: subject_labels}


@dataclass(frozen=True)
class CountsFamily(Generic[S]):
    """Counts by closed labels. Every combination exists from the start, with 0, so that no series appears later.

    No series when there are no counts, which is None.
    """

    kind: Kind
    name: str
    help: str
    labels: tuple[Label, ...]
    # Each count with a key of every label.
    counts: Callable[[S], Iterable[tuple[tuple[Hashable, ...], float]] | None]

    def metric(self, subjects: Iterable[Subject[S]], subject_labels: Sequence[AnyLabel] = ()) -> Metric:
        """Return the samples of all subjects. Keys outside the closed sets are summed under `other`."""
        metric = _new_metric(self.kind, self.name, self.help, (*subject_labels, *self.labels))
        for subject, data in subjects:
            counts = self.counts(data)
            if counts is None:
                continue
            totals: dict[tuple[str, ...], float] = defaultdict(float)
            for values in product(*(label.values.values() for label in self.labels)):
                totals[values] = 0.0
            for keys, count in counts:
                totals[tuple(map(Label.value_of, self.labels, keys))] += count
            for values, total in totals.items():
                metric.add_metric((*subject, *values), total)
        return metric

    def exported(self, subject_labels: Sequence[AnyLabel] = ()) -> Exported:
        """Return the names and labels of the series in `metric`."""
        return {self.name: (*subject_labels, *self.labels)}


@dataclass(frozen=True)
class HistogramFamily(Generic[S]):
    """A histogram. No series when there is none."""

    name: str
    help: str
    histogram: Callable[[S], Histogram | None]
    # Upper bounds of the buckets, without +Inf: what rules and dashboards may refer to.
    bounds: Sequence[float]

    def metric(self, subjects: Iterable[Subject[S]], subject_labels: Sequence[AnyLabel] = ()) -> Metric:
        """Return the samples of all subjects; none for a subject without a histogram."""
        metric = HistogramMetricFamily(self.name, self.help, labels=_names(subject_labels))
        for subject, data in subjects:
            histogram = self.histogram(data)
            if histogram is not None:
                buckets = [
                    (str(bucket.upper_bound), float(bucket.cumulative_count)) for bucket in histogram.buckets
                ]
                metric.add_metric(subject, [*buckets, ("+Inf", histogram.count)], histogram.sum)
        return metric

    def exported(self, subject_labels: Sequence[AnyLabel] = ()) -> Exported:
        """Return the names and labels of the series in `metric`."""
        return {
            f"{self.name}_bucket": (*subject_labels, BucketLabel(self.bounds)),
            f"{self.name}_sum": subject_labels,
            f"{self.name}_count": subject_labels,
        }


Family = ValueFamily[S] | CountsFamily[S] | HistogramFamily[S]


def _new_metric(
    kind: Kind, name: str, documentation: str, labels: Sequence[AnyLabel]
) -> CounterMetricFamily | GaugeMetricFamily:
    family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    return family(name, documentation, labels=_names(labels))


def _names(labels: Iterable[AnyLabel]) -> Sequence[str]:
    return [label.name for label in labels]
