"""Keyset pagination: a page continues behind the last row's order values, at the cost of an index range, not of an offset."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from sqlalchemy import Column, ColumnElement, UnaryExpression, and_, or_


@dataclass(frozen=True, slots=True)
class TimeOrder:
    """Rows in the order of a time, ties in the order of their id. An index on both serves it."""

    time: Column[datetime]
    row_id: Column[str]
    descending: bool

    def on(self, columns: Any) -> Self:
        """Return this order of the rows of another table that has these columns: a subquery."""
        return replace(self, time=columns[self.time.name], row_id=columns[self.row_id.name])

    def by(self) -> Sequence[UnaryExpression[Any]]:
        """Return the terms of ORDER BY."""
        columns: tuple[Column[Any], Column[Any]] = (self.time, self.row_id)
        return [column.desc() if self.descending else column.asc() for column in columns]

    def behind(self, position: tuple[datetime, str]) -> ColumnElement[bool]:
        """Return the condition that a row comes after `position`, the time and id of the last row seen."""
        time, row_id = position
        if self.descending:
            bound, further, tie = self.time <= time, self.time < time, self.row_id < row_id
        else:
            bound, further, tie = self.time >= time, self.time > time, self.row_id > row_id
        # The bound alone limits the index range; the second term cuts the ties.
        return and_(bound, or_(further, tie))

    def position(self, row: object) -> tuple[datetime, str]:
        """Return the position of an object whose attributes have the columns' names."""
        return getattr(row, self.time.name), getattr(row, self.row_id.name)
