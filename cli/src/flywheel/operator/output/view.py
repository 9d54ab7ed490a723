"""How a resource is shown: its columns in a table, its fields on a page of its own, its line when it is acted on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from flywheel.operator.output.cells import line

Shown = TypeVar("Shown", bound=Message)


@dataclass(frozen=True)
class Column(Generic[Shown]):
    """One value of a resource. `wide`: shown with `-o wide`, and on the page of one resource."""

    title: str
    cell: Callable[[Shown], str]
    wide: bool = False


@dataclass(frozen=True)
class View(Generic[Shown]):
    """The first column is the resource's id. `details` are shown on its page alone."""

    # In the plural, for "no incidents".
    noun: str
    columns: Sequence[Column[Shown]]
    details: Sequence[Column[Shown]] = ()

    def identity(self, item: Shown) -> str:
        """Return the resource's id."""
        return self.columns[0].cell(item)

    def summary(self, item: Shown) -> str:
        """Return the resource on one line."""
        cells = [each.cell(item) for each in self.columns if not each.wide]
        return "  ".join(line(cell) for cell in cells if cell)
