"""The text of a notification about a resolution."""

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

from incident.effects.external.notification import format_message
from incident.model import EventType
from tests.incident.unit.effects.resolutions import KEY, TOOK, event, resolution

DELIVERY_ID = "INC-20260507-99ADF2/notification/2"


def test_a_message_has_the_actor_the_incident_the_time_to_resolve_and_the_delivery_id() -> None:
    message = format_message(resolution(), TOOK, delivery_id=DELIVERY_ID)
    assert (message.title, message.level) == ("Resolved: disk full on db-1", "success")
    assert message.body == (
        "INC-20260507-99ADF2, severity HIGH\n"
        "NO_ACTION by alice, 7 min 3 s after it was reopened\n"
        "Action: NO_ACTION: observe first\n"
        "observed\n"
        "INC-20260507-99ADF2/notification/2"
    )


def test_unknown_values_are_omitted() -> None:
    bare = event(EventType.RESOLVED, actor="bob")
    first = resolution(key=replace(KEY, resolution_number=1), resolved=bare)
    message = format_message(first, timedelta(seconds=9), delivery_id=DELIVERY_ID)
    assert message.title == "Resolved: disk full on db-1"
    assert message.facts == "INC-20260507-99ADF2, severity HIGH\nNO_ACTION by bob, 9 s after it was opened"
    assert message.details == ""


def test_a_long_note_is_shortened_and_a_title_stays_on_one_line() -> None:
    long = event(EventType.RESOLVED, summary="n" * 8000)
    message = format_message(resolution(title="two\n\nlines", resolved=long), TOOK, delivery_id=DELIVERY_ID)
    assert message.title == "Resolved: two lines"
    assert message.details.splitlines()[-1] == "n" * 499 + "…"


def test_apprise_is_imported_only_when_it_is_used() -> None:
    heavy = {"apprise", "httpcore2", "httpx2", "requests"}
    code = f"import sys, incident.__main__; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "[]\n"
