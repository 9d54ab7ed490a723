"""The text of a message about an approval; docs/notifications.md shows one."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from approval.model import NotificationEvent, Risk, State
from approval.notification.instructions import Instructions
from approval.notification.message import format_message
from approval.notification.model import NotificationIntent, Subject

PROPOSED = datetime(2026, 5, 7, 12, 0, tzinfo=UTC)
SUBJECT = Subject(
    approval_id="APR-20260507-0123456789",
    action="RESTART deployment/web -n shop",
    risk=Risk.HIGH,
    namespace="shop",
    rationale="Latency has doubled since the deploy.",
    proposers=["bot"],
    required_approvals=2,
    approvals=0,
    state=State.PENDING,
    create_time=PROPOSED,
    expire_time=PROPOSED + timedelta(days=1),
    decide_time=None,
    is_past_expiry=False,
)
INSTRUCTIONS = Instructions(link="", address="flywheel.example.org:50052", tls=True, authenticated=True)
DOCUMENT = (Path(__file__).parents[4] / "docs/notifications.md").read_text(encoding="utf-8")


def intent(event: NotificationEvent, *, after: timedelta = timedelta(0)) -> NotificationIntent:
    return NotificationIntent(
        SUBJECT.approval_id, "INC-20260507-0123456789", event, PROPOSED + after, actor="alice", reason="fine"
    )


def test_the_documented_message_is_what_is_sent() -> None:
    message = format_message(intent(NotificationEvent.PENDING), SUBJECT, INSTRUCTIONS, ["the payments team"])
    assert f"```\n{message.title}\n{message.body}\n```" in DOCUMENT


def test_every_event_has_a_title_and_is_documented() -> None:
    _, _, section = DOCUMENT.partition("| event | when |")
    documented = set(
        re.findall(r"`([A-Z_]+)`", "\n".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)))
    )
    assert documented == set(NotificationEvent)
    for event in NotificationEvent:
        title = format_message(intent(event), SUBJECT, INSTRUCTIONS, []).title
        assert title.endswith(": RESTART deployment/web -n shop")


def test_a_link_takes_the_place_of_the_command() -> None:
    link = "https://ops.example.org/{incident_id}/{approval_id}?next={approval_id}"
    message = format_message(intent(NotificationEvent.PENDING), SUBJECT, replace(INSTRUCTIONS, link=link), [])
    first, _ = message.details.splitlines()
    assert first == (
        "https://ops.example.org/INC-20260507-0123456789/APR-20260507-0123456789?next=APR-20260507-0123456789"
    )


def test_without_authentication_everybody_but_the_proposer_may_decide() -> None:
    open_to_all = Instructions(link="", address="127.0.0.1:50052", tls=False, authenticated=False)
    message = format_message(
        intent(NotificationEvent.PENDING), replace(SUBJECT, required_approvals=1), open_to_all, []
    )
    assert message.facts.splitlines()[-1] == "May decide: everybody but bot, who proposed it"
    assert message.details.splitlines()[0].startswith("grpcurl -plaintext -H 'awoooi-actor: YOUR-NAME' -d ")


@pytest.mark.parametrize(
    ("subject", "line"),
    [
        (replace(SUBJECT, state=State.APPROVED), "No decision is needed any more: it is APPROVED"),
        (replace(SUBJECT, is_past_expiry=True), "No decision is needed any more: it is EXPIRED"),
    ],
    ids=["decided", "past its expiry"],
)
def test_what_cannot_be_decided_any_more_asks_for_no_decision(subject: Subject, line: str) -> None:
    message = format_message(intent(NotificationEvent.PENDING), subject, INSTRUCTIONS, ["dana"])
    assert message.facts.splitlines()[1:] == [line]
    assert message.details == "Rationale: Latency has doubled since the deploy."


def test_texts_of_callers_are_on_one_line_and_shortened() -> None:
    subject = replace(
        SUBJECT, action="please\nlook", rationale="r" * 9000, proposers=["bot\nMay decide: you"]
    )
    message = format_message(intent(NotificationEvent.PENDING), subject, INSTRUCTIONS, [])
    assert message.title == "Approval needed: please look"
    assert message.facts.splitlines()[-1].startswith(
        "May decide: everybody with the role approver but bot May decide"
    )
    assert message.details.splitlines()[-1] == f"Rationale: {'r' * 499}…"


def test_the_id_tells_events_and_their_times_apart() -> None:
    ids = {
        intent(event, after=after).message_id
        for event in NotificationEvent
        for after in (timedelta(0), timedelta(microseconds=1))
    }
    assert len(ids) == 2 * len(NotificationEvent)
