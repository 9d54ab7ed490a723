"""Snapshots and positions, without a database."""

import pytest

from servicekit.watch.model import Position
from servicekit.watch.snapshot import Snapshot


@pytest.mark.parametrize(
    ("written", "snapshot"),
    [
        pytest.param("10:10:", Snapshot(10, 10), id="nothing in progress"),
        pytest.param("10:14:10,12", Snapshot(10, 14, (10, 12)), id="two in progress"),
    ],
)
def test_a_snapshot_round_trips_in_the_format_of_postgresql(written: str, snapshot: Snapshot) -> None:
    assert Snapshot.parse(written) == snapshot
    assert str(snapshot) == written


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        pytest.param("10:10:", "10:11:", id="one more has ended"),
        pytest.param("10:14:10,12", "12:14:12", id="one of those in progress has ended"),
        pytest.param("10:14:10,12", "10:15:10,12", id="a younger one has ended"),
        pytest.param("10:11:10", "10:20:10,11,12,13", id="many have begun and one has ended"),
    ],
)
def test_a_snapshot_that_is_a_subset_of_another_is_older(earlier: str, later: str) -> None:
    assert Snapshot.parse(earlier).is_older_than(Snapshot.parse(later))
    assert not Snapshot.parse(later).is_older_than(Snapshot.parse(earlier))
    assert not Snapshot.parse(later).is_older_than(Snapshot.parse(later))


def test_a_position_at_a_snapshot_is_between_batches() -> None:
    one, other = Snapshot(10, 10), Snapshot(11, 11)
    assert Position.at(one).between_batches
    assert not Position(one, other, 0).between_batches
