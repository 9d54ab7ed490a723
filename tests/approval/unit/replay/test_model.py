"""What another policy would have decided about past proposals."""

from dataclasses import replace
from typing import Any

import pytest

from approval.actions.parsed import parse
from approval.model import Risk, Severity, State
from approval.policy.file import parse_policy
from approval.replay.model import Kind, PastProposal, Replay, Verdict, decided, would_decide
from approval.replay.report import to_json, to_text
from tests.approval.unit.proposed import NOON

POLICY = parse_policy(b"""
[rules.observe]
actions = ["NO_ACTION"]
risks = ["LOW"]

[rules.quiet]
actions = ["RESTART"]
risks = ["LOW"]
namespaces = ["shop"]
severities = ["LOW", "INFO"]
""")
PEOPLE, OBSERVE, QUIET = Verdict(Kind.PEOPLE), Verdict(Kind.RULE, "observe"), Verdict(Kind.RULE, "quiet")


def proposal(action: str = "NO_ACTION: look", **facts: Any) -> PastProposal:
    past = PastProposal(
        approval_id="APR-20260507-99ADF2",
        operation=parse(action).operation,
        risk=Risk.LOW,
        confidence=1.0,
        required_approvals=1,
        incident_verified=True,
        severity=Severity.LOW,
        create_time=NOON,
        decided=Verdict(Kind.APPROVED),
    )
    return replace(past, **facts)


@pytest.mark.parametrize(
    ("past", "verdict"),
    [
        (proposal(), OBSERVE),
        (proposal(risk=Risk.HIGH), PEOPLE),
        (proposal(required_approvals=2), PEOPLE),
        (proposal("please have a look"), PEOPLE),
        (proposal("RESTART deployment/web -n shop"), QUIET),
        (proposal("RESTART deployment/web -n shop", severity=Severity.HIGH), PEOPLE),
        (proposal("RESTART deployment/web -n shop", incident_verified=False, severity=None), PEOPLE),
        # The severity was known when it was proposed, and is not stored: only some severities lead to the rule.
        (proposal("RESTART deployment/web -n shop", severity=None), Verdict(Kind.UNKNOWN)),
        # Here every severity leads to the same.
        (proposal("RESTART deployment/web -n other", severity=None), PEOPLE),
        (proposal(severity=None), OBSERVE),
    ],
)
def test_a_proposal_is_decided_as_when_it_was_made(past: PastProposal, verdict: Verdict) -> None:
    assert would_decide(POLICY, past) == verdict


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"rule": "observe", "approvals": 1, "state": State.SUCCEEDED}, Kind.RULE),
        ({"approvals": 1, "state": State.SUCCEEDED}, Kind.APPROVED),
        # It was approved, and not executed in time.
        ({"approvals": 1, "state": State.EXPIRED}, Kind.APPROVED),
        ({"approvals": 1, "state": State.CANCELLED}, Kind.APPROVED),
        ({"approvals": 1, "required_approvals": 2, "state": State.EXPIRED}, Kind.EXPIRED),
        ({"approvals": 1, "required_approvals": 2, "rejected": True, "state": State.REJECTED}, Kind.REJECTED),
        ({"state": State.CANCELLED, "superseded": True}, Kind.SUPERSEDED),
        ({"state": State.CANCELLED}, Kind.CANCELLED),
        ({"state": State.PENDING}, Kind.PENDING),
        # Imported.
        ({"state": State.SUCCEEDED}, Kind.APPROVED),
    ],
)
def test_what_was_decided(facts: dict[str, object], kind: Kind) -> None:
    defaults = {"rule": "", "approvals": 0, "required_approvals": 1, "rejected": False, "superseded": False}
    assert decided(**(defaults | facts)).kind is kind  # type: ignore[arg-type]  # the tests' own


def test_the_report_has_what_changes_first_with_the_latest_examples() -> None:
    replay = Replay(POLICY)
    rejected = [
        proposal(decided=Verdict(Kind.REJECTED), approval_id=f"APR-20260507-00000{n}") for n in range(4)
    ]
    replay.add(
        [
            *(proposal(decided=OBSERVE) for _ in range(5)),
            *rejected,
            proposal(decided=QUIET, approval_id="APR-20260507-AAAAAA"),
            proposal(risk=Risk.HIGH, decided=OBSERVE, approval_id="APR-20260507-BBBBBB"),
            proposal("RESTART deployment/web -n shop", severity=None),
        ]
    )
    lines = [line.split("  ") for line in to_text(replay, since="").splitlines()]
    assert [[cell.strip() for cell in line if cell.strip()] for line in lines] == [
        ["PROPOSALS", "DECIDED", "NEW DECISION", "EXAMPLES"],
        ["* 4", "rejected by people", "rule observe", ", ".join(each.approval_id for each in rejected[1:])],
        ["* 1", "rule observe", "people decide", "APR-20260507-BBBBBB"],
        ["* 1", "rule quiet", "rule observe", "APR-20260507-AAAAAA"],
        ["5", "rule observe", "rule observe", ", ".join(["APR-20260507-99ADF2"] * 3)],
        ["1", "approved by people", "depends on the severity, which is not stored", "APR-20260507-99ADF2"],
        ["12 proposals: the policy decides 6 otherwise (*)"],
    ]
    assert '"changed": 6' in to_json(replay, file="policy.toml", since="")


def test_no_proposal_is_no_difference() -> None:
    assert to_text(Replay(POLICY), since="since 2026-05-01") == "0 proposals since 2026-05-01: no difference"
