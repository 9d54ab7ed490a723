"""The text of a notification, whole and shortened."""

from datetime import timedelta

import pytest

from incident.effects.message import Message, format_message
from incident.model import EventType
from tests.incident.unit.effects.resolutions import TOOK, event, resolution

WHOLE = Message(
    "Resolved: disk full", "INC-20260507-99ADF2, severity HIGH\nHUMAN by alice", "Action: none\nlooked"
)


def test_unknown_values_are_omitted() -> None:
    bare = event(EventType.RESOLVED, actor="bob")
    message = format_message(resolution(resolved=bare), timedelta(seconds=9))
    assert message.title == "Resolved: disk full on db-1"
    assert message.body == "INC-20260507-99ADF2, severity HIGH\nNO_ACTION by bob, 9 s after it was opened"


def test_a_long_note_is_shortened_and_a_title_stays_on_one_line() -> None:
    long = event(EventType.RESOLVED, summary="n" * 8000)
    message = format_message(resolution(title="two\n\nlines", resolved=long), TOOK)
    assert message.title == "Resolved: two lines"
    assert message.body.splitlines()[-1] == "n" * 499 + "…"


def test_a_message_that_fits_is_unchanged() -> None:
    assert WHOLE.fit(len(WHOLE)) == WHOLE


def test_the_note_is_cut_first_then_the_title_then_the_facts() -> None:
    without_details = len(WHOLE.title) + len(WHOLE.facts)
    assert WHOLE.fit(len(WHOLE) - 1) == Message(WHOLE.title, WHOLE.facts, "Action: none\nlook…")
    assert WHOLE.fit(without_details + 5) == Message(WHOLE.title, WHOLE.facts, "…")
    assert WHOLE.fit(without_details) == Message(WHOLE.title, WHOLE.facts, "")
    long = Message("Resolved: " + "t" * 490, WHOLE.facts, WHOLE.details)
    cut = long.fit(160)
    assert (cut.facts, cut.details) == (WHOLE.facts, "")
    assert cut.title.endswith("t…")
    cut = long.fit(80)
    assert (len(cut.title), cut.facts.splitlines()[0]) == (40, "INC-20260507-99ADF2, severity HIGH")
    assert cut.facts.endswith("…")


@pytest.mark.parametrize("title", ["Resolved: x", "Resolved: " + "t" * 500])
@pytest.mark.parametrize("details", ["", "n" * 30, "n" * 1500])
def test_a_message_fits_every_length_and_every_cut_is_marked(title: str, details: str) -> None:
    message = Message(title, WHOLE.facts, details)
    for characters in range(10, len(message) + 1):
        cut = message.fit(characters)
        assert len(cut) <= characters
        assert cut.title
        assert cut.facts
        if cut.details != details and cut.details:
            assert cut.details.endswith("…")
        for part, whole in ((cut.title, title), (cut.facts, message.facts)):
            assert part == whole or part.endswith("…")
