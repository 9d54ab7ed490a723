"""The routes of notifications: what is valid, how problems are reported, where messages go; and docs/policy.md."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from approval.model import NotificationEvent, Risk
from approval.policy.file import PolicyFileError, parse_policy
from approval.policy.routes import DEFAULT_EVENTS, Route, Routed, Routes
from tests.approval.unit.proposed import new_approval

PENDING, AUTO_APPROVED = NotificationEvent.PENDING, NotificationEvent.AUTO_APPROVED


def parsed(content: str, *channels: str) -> Routes:
    return parse_policy(content.encode(), channels=channels).routes


def test_the_routes_of_a_file_are_parsed() -> None:
    content = """
        [notifications.all]
        channels = ["oncall", "audit"]
        risks = ["HIGH"]
        namespaces = ["shop"]
        events = ["PENDING", "AUTO_APPROVED"]
        approvers = ["the payments team"]
        [notifications.rest]
        channels = []
    """
    assert parsed(content, "oncall", "audit") == Routes(
        (
            Route(
                "all",
                frozenset({"oncall", "audit"}),
                risks=frozenset({Risk.HIGH}),
                namespaces=frozenset({"shop"}),
                events=frozenset({PENDING, AUTO_APPROVED}),
                approvers=("the payments team",),
            ),
            Route("rest", frozenset(), events=DEFAULT_EVENTS),
        )
    )


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        pytest.param("", "notifications.a.channels: is required", id="no channels"),
        pytest.param('channels = ["A b"]', "notifications.a.channels.0: is not the name of a channel: a-z, 0-9 and -, at most 63 characters", id="a bad channel"),
        pytest.param('channels = "oncall"', 'notifications.a.channels: expected a list, such as ["…"]', id="a channel that is no list"),
        pytest.param('channels = ["pager"]', "notifications.a.channels: there is no channel pager in APPROVAL_NOTIFY_URLS; known are audit, oncall", id="an unknown channel"),
        pytest.param('channels = []\nrisk = ["LOW"]', "notifications.a.risk: unknown key; did you mean risks?", id="a key misspelt"),
        pytest.param("channels = []\nrisks = []", "notifications.a.risks: is an empty list, which nothing fits: leave the key out", id="no risk"),
        pytest.param('channels = []\nrisks = ["low"]', "notifications.a.risks.0: Input should be 'LOW', 'MEDIUM', 'HIGH' or 'CRITICAL'", id="a risk in small letters"),
        pytest.param('channels = []\nnamespaces = ["*"]', "notifications.a.namespaces.0: is not the name of a namespace", id="every namespace"),
        pytest.param('channels = []\nevents = ["DONE"]', "notifications.a.events.0: Input should be 'PENDING', 'REMINDER', 'APPROVED', 'AUTO_APPROVED', 'REJECTED', 'CANCELLED', 'SUPERSEDED', 'EXPIRED' or 'NOT_RECOVERED'", id="an unknown event"),
        pytest.param('channels = []\napprovers = ["a\\nb"]', "notifications.a.approvers.0: is not a name on one line, at most 100 characters", id="an approver on two lines"),
        pytest.param(f"channels = []\napprovers = {['x'] * 11}", "notifications.a.approvers: has 11 names, expected at most 10", id="a crowd of approvers"),
        pytest.param('channels = []\napprovers = "dana"', 'notifications.a.approvers: expected a list, such as ["…"]', id="an approver that is no list"),
    ],
)  # fmt: skip
def test_a_problem_is_reported_with_its_place(lines: str, problem: str) -> None:
    with pytest.raises(PolicyFileError) as caught:
        parsed(f"[notifications.a]\n{lines}", "oncall", "audit")
    assert caught.value.problems == [problem]


def test_a_bad_name_of_a_route_is_reported() -> None:
    with pytest.raises(PolicyFileError) as caught:
        parsed('[notifications."On call"]\nchannels = []')
    assert caught.value.problems == [
        "notifications.On call: is not the name of a route: a-z, 0-9 and -, at most 63 characters"
    ]


def test_channels_are_not_checked_where_none_is_configured() -> None:
    assert parsed('[notifications.a]\nchannels = ["pager"]').routes[0].channels == {"pager"}


WITH_EVENTS = """
    [notifications.asked]
    channels = ["oncall"]
    events = ["PENDING"]
    approvers = ["dana", "eve"]
    [notifications.told]
    channels = ["audit"]
    events = ["APPROVED", "AUTO_APPROVED"]
    approvers = ["eve"]
    [notifications.both]
    channels = ["chat"]
    approvers = ["frank", "eve"]
"""


@pytest.mark.parametrize(
    ("event", "channels", "approvers"),
    [
        (PENDING, {"oncall", "chat"}, ["dana", "eve", "frank"]),
        (NotificationEvent.APPROVED, {"audit", "chat"}, ["eve", "frank"]),
        (AUTO_APPROVED, {"audit"}, ["eve"]),
        (NotificationEvent.EXPIRED, {"chat"}, ["frank", "eve"]),
    ],
)
def test_a_route_has_its_events_only(
    event: NotificationEvent, channels: set[str], approvers: list[str]
) -> None:
    routes = parsed(WITH_EVENTS, "oncall", "audit", "chat")
    assert routes.find(Risk.LOW, "", event) == Routed(frozenset(channels), approvers)


def test_without_a_matching_route_every_channel_is_notified_but_not_of_what_a_rule_approved() -> None:
    assert Routes().find(Risk.LOW, "", PENDING) == Routed(None)
    assert Routes().find(Risk.LOW, "", AUTO_APPROVED) == Routed(frozenset())


DOCUMENT = (Path(__file__).parents[4] / "docs/policy.md").read_text(encoding="utf-8")
_, _, SECTION = DOCUMENT.partition("\n## Routes of notifications\n")
SECTION = SECTION.partition("\n## ")[0]
[EXAMPLE] = re.findall(r"```toml\n(.*?)```", SECTION, flags=re.DOTALL)
ROUTED = re.findall(r"^\| `(.*)` \| `([A-Z]*)` \| (.*) \|$", SECTION, flags=re.MULTILINE)


@pytest.mark.parametrize("documented", ROUTED, ids=" ".join)
def test_the_documented_routes_lead_where_they_are_documented_to_lead(documented: Sequence[str]) -> None:
    action, risk, channels = documented
    operation = new_approval(action, risk=Risk(risk)).operation
    assert operation is not None
    routed = parsed(EXAMPLE, "oncall", "payments").find(Risk(risk), operation.namespace, PENDING)
    named = {"none": frozenset(), "every channel": None}.get(
        channels, frozenset(re.findall(r"`(.*?)`", channels))
    )
    assert routed.channels == named


def test_there_are_documented_routes() -> None:
    assert len(ROUTED) == 6


def test_every_key_of_a_route_is_documented() -> None:
    keys = re.findall(r"^\| `([a-z_]+)` \|", SECTION, flags=re.MULTILINE)
    with pytest.raises(PolicyFileError) as caught:
        parsed("[notifications.a]\nchannels = []\nx = 1")
    assert keys == str(caught.value).partition("known are ")[2].split(", ")


def test_the_documented_mistake_is_reported_as_documented() -> None:
    with pytest.raises(PolicyFileError) as caught:
        parsed('[notifications.oncall]\nchannels = ["pager"]', "oncall", "payments")
    assert f"APPROVAL_POLICY_FILE: /etc/flywheel/policy.toml: {caught.value}\n" in DOCUMENT
