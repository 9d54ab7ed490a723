"""Lists whose criteria no index has: so many rows are examined at a time, however few of them match.

A list reads a range of an index in its order (`within`). What else it asks for is compared row by row; a page for which too
many rows would have to be read ends early, and the next one goes on behind the last row that was examined.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, select

# A statement of so many rows takes a few milliseconds.
MAX_EXAMINED = 2000

Terms = Callable[[Any], Sequence[ColumnElement[Any]]]


def select_matching(
    table: FromClause,
    columns: Sequence[ColumnElement[Any]],
    within: Sequence[ColumnElement[bool]],
    matching: Terms,
    order_by: Terms,
    *,
    limit: int,
) -> Select[Any]:
    """Return the SELECT of the first `limit` matching rows, among the first MAX_EXAMINED of a range of `table`.

    `matching` and `order_by` return their terms over the columns that they are given, some of `columns`. Without terms every
    row matches.
    """
    rows = select(*columns).where(*within).order_by(*order_by(table.c))
    if not matching(table.c):
        return rows.limit(limit)
    examined = rows.limit(MAX_EXAMINED).subquery("examined")
    return select(examined).where(*matching(examined.c)).order_by(*order_by(examined.c)).limit(limit)


def select_last_examined(
    columns: Sequence[ColumnElement[Any]],
    within: Sequence[ColumnElement[bool]],
    order_by: Sequence[ColumnElement[Any]],
) -> Select[Any]:
    """Return the SELECT of `columns` of the last row that `select_matching` examined when it found fewer than its limit.

    No row when the range ends before.
    """
    return select(*columns).where(*within).order_by(*order_by).offset(MAX_EXAMINED - 1).limit(1)
