"""The text of a notification, shortened."""

from dataclasses import replace

import pytest

from servicekit.notifications.message import Message

WHOLE = Message(
    "Resolved: disk full", "INC-20260507-99ADF2, severity HIGH\nHUMAN by alice", "Action: none\nlooked", ""
)
MESSAGE_ID = "INC-20260507-99ADF2/notification/2"


def test_a_message_that_fits_is_unchanged() -> None:
    assert WHOLE.fit(len(WHOLE)) == WHOLE


def test_the_note_is_cut_first_then_the_title_then_the_facts() -> None:
    without_details = len(WHOLE.title) + len(WHOLE.facts)
    assert WHOLE.fit(len(WHOLE) - 1) == replace(WHOLE, details="Action: none\nlook…")
    assert WHOLE.fit(without_details + 5) == replace(WHOLE, details="…")
    assert WHOLE.fit(without_details) == replace(WHOLE, details="")
    long = replace(WHOLE, title="Resolved: " + "t" * 490)
    cut = long.fit(160)
    assert (cut.facts, cut.details) == (WHOLE.facts, "")
    assert cut.title.endswith("t…")
    cut = long.fit(80)
    assert (len(cut.title), cut.facts.splitlines()[0]) == (40, "INC-20260507-99ADF2, severity HIGH")
    assert cut.facts.endswith("…")


@pytest.mark.parametrize("title", ["Resolved: x", "Resolved: " + "t" * 500])
@pytest.mark.parametrize("details", ["", "n" * 30, "n" * 1500])
@pytest.mark.parametrize("message_id", ["", MESSAGE_ID])
def test_a_message_fits_every_length_and_every_cut_is_marked(
    title: str, details: str, message_id: str
) -> None:
    message = Message(title, WHOLE.facts, details, message_id)
    for characters in range(10, len(message) + 1):
        cut = message.fit(characters)
        assert len(cut) <= characters
        assert cut.title
        assert cut.facts
        if cut.details != details and cut.details:
            assert cut.details.endswith("…")
        for part, whole in ((cut.title, title), (cut.facts, message.facts)):
            assert part == whole or part.endswith("…")
        assert cut.message_id == (message_id if characters > 2 * len(message_id) else "")
        assert cut.body.endswith(cut.message_id)
