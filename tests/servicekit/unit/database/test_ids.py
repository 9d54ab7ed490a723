"""Record ids: readable, random, wider with each collision."""

from datetime import UTC, datetime

import pytest

from servicekit.database.ids import id_pattern, id_rule, new_id, prefix_of_pattern

DAY = datetime(2026, 5, 7, 23, 59, tzinfo=UTC)


@pytest.mark.parametrize(("attempt", "digits"), [(0, 10), (1, 12), (2, 12), (99, 12)])
def test_an_id_is_two_digits_wider_with_each_collision_up_to_twelve(attempt: int, digits: int) -> None:
    made = new_id("INC", attempt=attempt, now=DAY)
    assert made.startswith("INC-20260507-")
    assert len(made.removeprefix("INC-20260507-")) == digits
    assert id_pattern("INC").fullmatch(made)


def test_a_new_id_is_none_that_a_restore_has_lost() -> None:
    lost_a_day = new_a_day = 1000
    digits = len(new_id("INC", attempt=0, now=DAY).removeprefix("INC-20260507-"))
    assert lost_a_day * new_a_day / 16**digits < 1e-5


def test_ids_are_random() -> None:
    assert len({new_id("APR", attempt=3) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "other",
    [
        "APR-20260507-99ADF2",
        "INC-20260507-99ADF",
        "INC-20260507-99ADF2A1B2C3D",
        "INC-20260507-99adf2",
        "INC-2026057-99ADF2",
        "INC-20260507-99ADF2\n",
        "INC-\uff12\uff10260507-99ADF2",
    ],
    ids=ascii,
)
def test_the_pattern_matches_ids_of_its_prefix_only(other: str) -> None:
    assert id_pattern("INC").fullmatch("INC-20260507-99ADF2")
    assert not id_pattern("INC").fullmatch(other)


def test_the_prefix_of_a_contracts_pattern_is_read() -> None:
    assert prefix_of_pattern("^INC-[0-9]{8}-[0-9A-F]{6,12}$") == "INC"
    assert prefix_of_pattern("^[!-~]*$") is None
    assert id_rule("INC").startswith("INC-YYYYMMDD-")
