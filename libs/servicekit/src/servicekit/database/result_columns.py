"""The columns of a textual statement's rows, by their position.

SQLAlchemy keeps what it knows of a result with the compiled statement when every column was given with its position; otherwise
it looks the names up anew at each execution, which is a sixth of a statement's processor time.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnClause, column
from sqlalchemy.types import TypeEngine

SqlType: TypeAlias = type[TypeEngine[Any]] | TypeEngine[Any]


def result_columns(names: str, **types: SqlType) -> Sequence[ColumnClause[Any]]:
    """Return columns by their names, separated by commas, in the order in which the statement returns them.

    `types` are those of columns whose values are converted. Raises ValueError for one that is not among the names.
    """
    all_names = [name.strip() for name in names.split(",")]
    if unknown := types.keys() - set(all_names):
        raise ValueError(f"no such columns: {', '.join(sorted(unknown))}")
    return [column(name, types.get(name)) for name in all_names]
