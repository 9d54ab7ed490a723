"""Labels of series, and the values that each can have."""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import EnumDescriptor

# The label value of everything outside a closed set, so that no source can create new series.
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Label:
    """A label with a closed set of values, each by its key in the data, such as an enum number."""

    name: str
    values: Mapping[Hashable, str]

    def value_of(self, key: Hashable) -> str:
        """Return the value of a key; `other` for one outside the set."""
        return self.values.get(key, OTHER)

    def takes(self, value: str) -> bool:
        """Whether a series can have this value."""
        return value in self._possible()

    def takes_any(self, pattern: re.Pattern[str]) -> bool:
        """Whether a series can have a value that the pattern matches as a whole."""
        return any(pattern.fullmatch(value) for value in self._possible())

    def described(self) -> str:
        """Return the values as a list for messages."""
        return ", ".join(sorted(self._possible()))

    def _possible(self) -> set[str]:
        return {*self.values.values(), OTHER}


@dataclass(frozen=True, slots=True)
class OpenLabel:
    """A label whose values come from configuration or from a source: only their form is known."""

    name: str
    has_form: Callable[[str], bool]
    # The form, for messages.
    form: str

    def takes(self, value: str) -> bool:
        """Whether a series can have this value."""
        return self.has_form(value)

    def takes_any(self, _: re.Pattern[str]) -> bool:
        """Whether a series can have a value that the pattern matches; always true, since the values are not known."""
        return True

    def described(self) -> str:
        """Return the form, for messages."""
        return self.form


@dataclass(frozen=True, slots=True)
class BucketLabel:
    """The label `le`, with the upper bounds of a histogram's buckets."""

    bounds: Sequence[float]
    name: str = "le"

    def takes(self, value: str) -> bool:
        """Whether a series can have this value: a bound as prometheus_client writes it, "60.0" and not "60"."""
        return value in self._possible()

    def takes_any(self, pattern: re.Pattern[str]) -> bool:
        """Whether a series can have a value that the pattern matches as a whole."""
        return any(pattern.fullmatch(value) for value in self._possible())

    def described(self) -> str:
        """Return the bounds as a list for messages."""
        return ", ".join(self._possible())

    def _possible(self) -> list[str]:
        return [*(str(float(bound)) for bound in self.bounds), "+Inf"]


AnyLabel = Label | OpenLabel | BucketLabel


def enum_label(name: str, enum: EnumDescriptor, *numbers: int) -> Label:
    """Return a label for `numbers` of a protobuf enum, or all of them but UNSPECIFIED: `STATE_OPEN` becomes `open`."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    chosen = numbers or [number for number in enum.values_by_number if number != 0]
    return Label(
        name, {number: enum.values_by_number[number].name.removeprefix(prefix).lower() for number in chosen}
    )
