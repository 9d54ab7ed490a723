"""Columns of a textual statement by their position."""

import pytest
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import NullType

from servicekit.database.result_columns import result_columns


def test_columns_have_the_order_of_their_names_and_their_types() -> None:
    columns = result_columns("id, labels,\n    version", labels=JSONB)
    assert [each.name for each in columns] == ["id", "labels", "version"]
    assert [type(each.type) for each in columns] == [NullType, JSONB, NullType]


def test_a_type_of_no_column_is_refused() -> None:
    with pytest.raises(ValueError, match="no such columns: lables"):
        result_columns("id, labels", lables=JSONB)


def test_a_statement_with_them_is_matched_by_position_and_its_result_metadata_is_cached() -> None:
    assert text("SELECT 1 AS id").columns(*result_columns("id")).positional
    assert not text("SELECT 1 AS id, 2 AS labels").columns(labels=JSONB).positional
