"""Prints the results of the operator's commands in the wanted form. Notes for people go to standard error."""

import io
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum, auto
from itertools import islice
from typing import TextIO

from google.protobuf.message import Message
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from flywheel.operator.output.cells import line, lines
from flywheel.operator.output.json_form import json_line
from flywheel.operator.output.styles import styled
from flywheel.operator.output.view import Column, Shown, View

# A line of a pipe is never wrapped or shortened.
_UNLIMITED = 100_000
# Of the last column, on a terminal that has no room for it: its lines are then wrapped.
_LEAST_WIDTH = 10
_GAP = "  "


class Format(StrEnum):
    """The forms of output."""

    TABLE = auto()
    WIDE = auto()
    JSON = auto()
    NAME = auto()


class Printer:
    """Standard output, in one form; or a text, as a terminal of the same width would show it."""

    def __init__(self, form: Format, *, screen: io.StringIO | None = None, width: int | None = None) -> None:
        self.form = form
        self._out: TextIO = screen or sys.stdout
        self._notes: TextIO = screen or sys.stderr
        is_terminal = screen is not None or sys.stdout.isatty()
        self.console = Console(
            file=self._out,
            # What is no terminal is never coloured, not by FORCE_COLOR either.
            force_terminal=is_terminal,
            width=width if is_terminal else _UNLIMITED,
            highlight=False,
            markup=False,
            emoji=False,
        )

    @property
    def is_json(self) -> bool:
        """Whether a program reads it."""
        return self.form is Format.JSON

    @property
    def is_for_people(self) -> bool:
        """Whether a person reads it: neither JSON nor ids alone."""
        return self.form in (Format.TABLE, Format.WIDE)

    def items(self, items: Iterable[Shown], view: View[Shown], *, limit: int) -> None:
        """Print a list: a table, ids alone, or a JSON array with one item a line. `limit` 0: all."""
        found = iter(items)
        shown = islice(found, limit) if limit else found
        if self.is_json:
            self._array(shown)
        elif self.form is Format.NAME:
            for each in shown:
                self.line(view.identity(each))
        else:
            rows = list(shown)
            self._table(rows, view.columns) if rows else self.note(f"no {view.noun}")
        if limit and next(found, None) is not None:
            self.note(f"there are more than {limit}; --limit 0 shows all")

    def item(self, item: Shown, view: View[Shown]) -> None:
        """Print all of one resource."""
        if self.is_json:
            self.line(json_line(item))
        elif self.form is Format.NAME:
            self.line(view.identity(item))
        else:
            fields = [(each.title, each.cell(item)) for each in (*view.columns, *view.details)]
            self.fields([(title, text) for title, text in fields if text])

    def result(self, response: Message, text: str, name: str) -> None:
        """Print what a call has done: a sentence, the id, or the response."""
        if self.is_json:
            self.line(json_line(response))
        else:
            self.line(name if self.form is Format.NAME else text)

    def document(self, message: Message, markdown: str) -> None:
        """Print a document: rendered on a terminal, else as it is."""
        if self.is_json:
            self.line(json_line(message))
        elif self.console.is_terminal:
            self.console.print(Markdown(lines(markdown)))
        else:
            self.line(lines(markdown).rstrip("\n"))

    def fields(self, fields: Iterable[tuple[str, str]]) -> None:
        """Print titles with their texts; texts of several lines come below their title."""
        for title, text in fields:
            if "\n" in text:
                self._print(Text(f"{title}:", "bold"))
                for each in lines(text).strip().splitlines():
                    self._print(Text(f"  {each}"))
            else:
                value = Text.assemble((f"{title + ':':<17}", "bold"), styled(line(text)))
                self._print(value)

    def changes(self, changes: Iterable[Shown], text: Callable[[Shown], str]) -> None:
        """Print a line, or an object, for each change as soon as it comes."""
        for each in changes:
            self.line(json_line(each) if self.is_json else text(each))

    def table(self, titles: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
        """Print rows under their titles. On a terminal the last column takes what is left; an id is never shortened."""
        lines_of = [[Text(title, "bold") for title in titles]]
        lines_of += [[styled(line(cell)) for cell in row] for row in rows]
        *widths, _last = (max(cell.cell_len for cell in column) for column in zip(*lines_of, strict=True))
        room = self.console.width - sum(widths) - len(_GAP) * len(widths)
        for row in lines_of:
            for cell, width in zip(row, widths, strict=False):
                cell.pad_right(width - cell.cell_len)
            row[-1].truncate(max(room, _LEAST_WIDTH), overflow="ellipsis")
            joined = Text(_GAP).join(row)
            joined.rstrip()
            self._print(joined)

    def line(self, text: str) -> None:
        """Print a line at once."""
        print(text, file=self._out, flush=True)

    def note(self, text: str) -> None:
        """Print a line for people, beside the result."""
        print(f"flywheel: {text}", file=self._notes, flush=True)

    def _print(self, text: Text) -> None:
        # By way of `line`: at a closed pipe the console would end the process in its own way.
        with self.console.capture() as capture:
            self.console.print(text, soft_wrap=True)
        self.line(capture.get().rstrip("\n"))

    def _table(self, items: Iterable[Shown], columns: Iterable[Column[Shown]]) -> None:
        shown = [each for each in columns if self.form is Format.WIDE or not each.wide]
        self.table([each.title for each in shown], ([each.cell(item) for each in shown] for item in items))

    def _array(self, items: Iterable[Message]) -> None:
        # As they come: a long list is not kept in memory.
        before = "["
        for each in items:
            print(f"{before}\n{json_line(each)}", end="", file=self._out)
            before = ","
        print("[]" if before == "[" else "\n]", file=self._out, flush=True)
