"""The shapes a series can have: a figure, counts by closed labels, a distribution."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Generic, Literal, TypeVar

from google.protobuf.descriptor import EnumDescriptor
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from awoooi.flywheel.v1.flywheel_stats_pb2 import Histogram

# What a series is read from: a section of an answer, a source's reading.
S = TypeVar("S")
Kind = Literal["gauge", "counter"]
# The thing a series is read from, with the values of the labels that say which one of several it is.
Subject = tuple[tuple[str, ...], S]

# The label value of everything outside a closed set, so that no source can make up series.
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Label:
    """A label with a closed set of values, by what stands for them where they are read."""

    name: str
    values: Mapping[Hashable, str]

    def value_of(self, key: Hashable) -> str:
        """Return the label value, `other` for what is not in the set."""
        return self.values.get(key, OTHER)


def enum_label(name: str, enum: EnumDescriptor, *numbers: int) -> Label:
    """Return a label for `numbers` of a protobuf enum, or all of them but UNSPECIFIED: `STATE_OPEN` becomes `open`."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    chosen = numbers or [number for number in enum.values_by_number if number != 0]
    return Label(
        name, {number: enum.values_by_number[number].name.removeprefix(prefix).lower() for number in chosen}
    )


@dataclass(frozen=True)
class Figure(Generic[S]):
    """One number, or none: then there is no series."""

    kind: Kind
    name: str
    help: str
    value: Callable[[S], float | None]

    def family(self, subjects: Iterable[Subject[S]], subject_labels: Sequence[str] = ()) -> Metric:
        """Return the series of all subjects; without samples when there is no number."""
        family = _new_family(self.kind, self.name, self.help, subject_labels)
        for subject, read_from in subjects:
            value = self.value(read_from)
            if value is not None:
                family.add_metric(subject, value)
        return family


@dataclass(frozen=True)
class Counts(Generic[S]):
    """Numbers by closed labels. Every combination is there from the start, 0 if need be, so that none appears later."""

    kind: Kind
    name: str
    help: str
    labels: tuple[Label, ...]
    # Each count with what stands for its label values, one for each label.
    counts: Callable[[S], Iterable[tuple[tuple[Hashable, ...], float]]]

    def family(self, subjects: Iterable[Subject[S]], subject_labels: Sequence[str] = ()) -> Metric:
        """Return the series of all subjects. What falls outside the closed sets is added up under `other`."""
        family = _new_family(
            self.kind, self.name, self.help, (*subject_labels, *(label.name for label in self.labels))
        )
        for subject, read_from in subjects:
            totals: dict[tuple[str, ...], float] = defaultdict(float)
            for values in product(*(label.values.values() for label in self.labels)):
                totals[values] = 0.0
            for keys, count in self.counts(read_from):
                totals[tuple(map(Label.value_of, self.labels, keys))] += count
            for values, total in totals.items():
                family.add_metric((*subject, *values), total)
        return family


@dataclass(frozen=True)
class Distribution(Generic[S]):
    """A histogram, or none."""

    name: str
    help: str
    histogram: Callable[[S], Histogram | None]

    def family(self, subjects: Iterable[Subject[S]], subject_labels: Sequence[str] = ()) -> Metric:
        """Return the histograms of all subjects; without samples when there is none."""
        family = HistogramMetricFamily(self.name, self.help, labels=subject_labels)
        for subject, read_from in subjects:
            histogram = self.histogram(read_from)
            if histogram is not None:
                buckets = [
                    (str(bucket.upper_bound), float(bucket.cumulative_count)) for bucket in histogram.buckets
                ]
                family.add_metric(subject, [*buckets, ("+Inf", histogram.count)], histogram.sum)
        return family


Series = Figure[S] | Counts[S] | Distribution[S]


def _new_family(
    kind: Kind, name: str, documentation: str, labels: Sequence[str]
) -> CounterMetricFamily | GaugeMetricFamily:
    family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    return family(name, documentation, labels=labels)
