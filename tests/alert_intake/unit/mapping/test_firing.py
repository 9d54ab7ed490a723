"""The identity of a firing: its ids, and which firing is a later one."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from alert_intake.mapping.firing import Firing, end_note, parse_end_note, parse_firing

BEGAN = datetime(2026, 5, 7, 10, 0, 0, 500_000, tzinfo=UTC)
ENDED = BEGAN + timedelta(minutes=20)
FIRING = Firing("c0ffee0123456789", BEGAN)
AGAIN = Firing("c0ffee0123456789", BEGAN, ended_before=ENDED)
LONGEST = Firing("x" * 56, BEGAN, ended_before=ENDED + timedelta(microseconds=1))


def test_the_ids_are_those_of_the_contract() -> None:
    assert FIRING.request_id == "c0ffee0123456789@2026-05-07T10:00:00.500000+00:00"
    for each in (FIRING, AGAIN, LONGEST):
        assert re.fullmatch(r"INC-20260507-[0-9A-F]{12}", each.incident_id)
        assert re.fullmatch(r"[!-~]{1,128}", each.request_id)


def test_another_beginning_another_alert_or_an_earlier_end_is_another_firing() -> None:
    others = [Firing("c0ffee0123456789", ENDED), Firing("another", BEGAN), AGAIN]
    assert len({each.request_id for each in [FIRING, *others]}) == 4
    assert len({each.incident_id for each in [FIRING, *others]}) == 4


@pytest.mark.parametrize("firing", [FIRING, AGAIN, LONGEST, Firing("group:a@b", BEGAN)])
def test_a_firing_is_read_back_from_its_request_id(firing: Firing) -> None:
    assert parse_firing(firing.request_id) == firing


@pytest.mark.parametrize("other", ["", "6f1c2a34", "a@b", "a@2026-05-07T10:00:00+00:00+again:"])
def test_other_request_ids_are_no_firing_or_a_first_one(other: str) -> None:
    parsed = parse_firing(other)
    assert parsed is None or parsed.ended_before is None


@pytest.mark.parametrize(
    ("firing", "end", "later"),
    [
        (FIRING, ENDED, False),
        (FIRING, BEGAN, False),
        (Firing("a", ENDED + timedelta(seconds=1)), ENDED, True),
        # It began while the other one fired, by the clock of another Prometheus: the same one.
        (Firing("a", ENDED - timedelta(seconds=1)), ENDED, False),
        (AGAIN, ENDED, True),
        (AGAIN, ENDED + timedelta(minutes=5), False),
    ],
    ids=["its own end", "no duration", "later", "overlaps", "again", "again and its own end"],
)
def test_a_later_firing_began_after_the_end(firing: Firing, end: datetime, later: bool) -> None:
    assert firing.began_after(end) is later


def test_an_end_is_read_back_from_the_note_of_a_resolution() -> None:
    assert parse_end_note(end_note(ENDED)) == ENDED
    assert parse_end_note("The alert ended at noon.") is None
    assert parse_end_note("restarted") is None
