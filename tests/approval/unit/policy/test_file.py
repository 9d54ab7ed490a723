"""The policy file: what is valid, how problems are reported, and that docs/policy.md describes both."""

import re
from collections.abc import Sequence
from datetime import datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from approval.model import OperationKind, Risk, Severity
from approval.policy.file import PolicyFileError, parse_policy
from approval.policy.model import Policy, Rule, TimeOfDay
from tests.approval.unit.proposed import new_approval

WHOLE = """
[rules.restart-staging]
actions = ["RESTART", "ROLLBACK"]
risks = ["LOW", "MEDIUM"]
namespaces = ["staging"]
confidence_at_least = 0.9
severities = ["LOW", "INFO"]
time_of_day = { from = "22:00", until = "06:00", zone = "Europe/Berlin" }

[rules.observe]
actions = ["NO_ACTION"]
risks = ["LOW"]

[rules.page]
actions = ["HTTP"]
risks = ["LOW"]
hooks = ["page"]
"""
RESTART = 'actions = ["RESTART"]\nrisks = ["LOW"]\nnamespaces = ["staging"]\n'
OBSERVE = 'actions = ["NO_ACTION"]\nrisks = ["LOW"]\n'


def test_the_rules_of_a_file_are_parsed_in_its_order() -> None:
    assert parse_policy(WHOLE.encode()) == Policy(
        (
            Rule(
                "restart-staging",
                frozenset({OperationKind.RESTART, OperationKind.ROLLBACK}),
                frozenset({Risk.LOW, Risk.MEDIUM}),
                namespaces=frozenset({"staging"}),
                confidence_at_least=0.9,
                severities=frozenset({Severity.LOW, Severity.INFO}),
                time_of_day=TimeOfDay(time(22), time(6), ZoneInfo("Europe/Berlin")),
            ),
            Rule("observe", frozenset({OperationKind.NO_ACTION}), frozenset({Risk.LOW})),
            Rule("page", frozenset({OperationKind.HTTP}), frozenset({Risk.LOW}), hooks=frozenset({"page"})),
        )
    )


@pytest.mark.parametrize(
    "content", ["", "[rules]", "# all off for now"], ids=["empty", "no rule", "a comment"]
)
def test_a_file_without_rules_is_valid_and_approves_nothing(content: str) -> None:
    assert parse_policy(content.encode()) == Policy()


@pytest.mark.parametrize("number", ["0", "1", "0.5"])
def test_confidence_is_a_number_from_0_to_1(number: str) -> None:
    content = f"[rules.a]\n{OBSERVE}confidence_at_least = {number}"
    assert parse_policy(content.encode()).rules[0].confidence_at_least == float(number)


def rule(lines: str) -> str:
    return f"[rules.a]\n{lines}"


def window(table: str) -> str:
    return rule(f"{OBSERVE}time_of_day = {table}")


NUMBER = "rules.a.confidence_at_least: expected a number from 0 to 1"
CLOCK = 'expected a time such as "22:00"'
NAMESPACE = "is not the name of a namespace"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param("[rules.a\n", "is not TOML: Expected ']' at the end of a table declaration (at line 1, column 9)", id="not TOML"),
        pytest.param(rule(OBSERVE) + "[rules.a]\n", "is not TOML: Cannot declare ('rules', 'a') twice (at line 4, column 9)", id="a name twice"),
        pytest.param(f"[rule.a]\n{OBSERVE}", "rule: unknown key; did you mean rules?", id="a wrong table"),
        pytest.param("enabled = true", "enabled: unknown key; known are rules, notifications", id="a key nothing like any"),
        pytest.param('rules = "all"', "rules: expected a table", id="rules that are none"),
        pytest.param('rules.a = "all"', "rules.a: expected a table", id="a rule that is none"),
        pytest.param(f'[rules."Every One"]\n{OBSERVE}', "rules.Every One: is not the name of a rule: a-z, 0-9 and -, at most 63 characters", id="a bad name"),
        pytest.param(f'[rules."a\\n\\u001b[2J\\u202eb"]\n{OBSERVE}', 'rules."a\\n\\u001b[2J\\u202eb": is not the name of a rule: a-z, 0-9 and -, at most 63 characters', id="a name that cannot be shown"),
        pytest.param(rule(OBSERVE + '"risk\\u200bs" = 1'), 'rules.a."risk\\u200bs": unknown key; did you mean risks?', id="an invisible character in a key"),
        pytest.param(f"[rules.{'a' * 64}]\n{OBSERVE}", f"rules.{'a' * 64}: is not the name of a rule: a-z, 0-9 and -, at most 63 characters", id="a long name"),
        pytest.param(rule(OBSERVE + 'severites = ["LOW"]'), "rules.a.severites: unknown key; did you mean severities?", id="a key misspelt"),
        pytest.param(rule(OBSERVE + "max_confidence = 1"), "rules.a.max_confidence: unknown key; did you mean confidence_at_least?", id="a key of another name"),
        pytest.param(rule('risks = ["LOW"]'), "rules.a.actions: is required", id="no actions"),
        pytest.param(rule('actions = ["NO_ACTION"]'), "rules.a.risks: is required", id="no risks"),
        pytest.param(rule('actions = []\nrisks = ["LOW"]'), "rules.a.actions: is an empty list, which nothing fits: leave the rule out", id="an empty list"),
        pytest.param(rule('actions = "NO_ACTION"\nrisks = ["LOW"]'), 'rules.a.actions: expected a list, such as ["…"]', id="no list"),
        pytest.param(rule('actions = ["REBOOT"]\nrisks = ["LOW"]'), "rules.a.actions.0: Input should be 'NO_ACTION', 'RESTART', 'SCALE', 'DELETE', 'ROLLBACK' or 'HTTP'", id="an unknown action"),
        pytest.param(rule('actions = ["NO_ACTION"]\nrisks = ["low"]'), "rules.a.risks.0: Input should be 'LOW', 'MEDIUM', 'HIGH' or 'CRITICAL'", id="a risk in small letters"),
        pytest.param(rule(OBSERVE + 'severities = ["P1"]'), "rules.a.severities.0: Input should be 'CRITICAL', 'HIGH', 'MEDIUM', 'LOW' or 'INFO'", id="an unknown severity"),
        pytest.param(rule('actions = ["RESTART", "SCALE"]\nrisks = ["LOW"]'), "rules.a: namespaces is required with RESTART and SCALE", id="no namespaces"),
        pytest.param(rule(RESTART.replace("staging", "*")), f"rules.a.namespaces.0: {NAMESPACE}", id="every namespace"),
        pytest.param(rule(RESTART.replace("staging", " staging")), f"rules.a.namespaces.0: {NAMESPACE}", id="a blank too many"),
        pytest.param(rule(RESTART.replace('"staging"', '"staging", 7')), 'rules.a.namespaces.1: expected a text in quotes, such as "…"', id="a namespace that is a number"),
        pytest.param(rule(RESTART.replace('"RESTART"', '"RESTART", "NO_ACTION"')), "rules.a: NO_ACTION has no namespaces: give it a rule of its own", id="an action without a namespace"),
        pytest.param(rule('actions = ["HTTP"]\nrisks = ["LOW"]'), "rules.a: hooks is required with HTTP", id="no hooks"),
        pytest.param(rule('actions = ["HTTP"]\nrisks = ["LOW"]\nhooks = ["https://example.org"]'), "rules.a.hooks.0: is not the name of a hook: a-z, 0-9 and -, at most 63 characters", id="a hook by its URL"),
        pytest.param(rule(RESTART + 'hooks = ["page"]'), "rules.a: RESTART has no hooks: give it a rule of its own", id="an action without a hook"),
        pytest.param(rule(OBSERVE + "confidence_at_least = 90"), NUMBER, id="a percentage"),
        pytest.param(rule(OBSERVE + "confidence_at_least = -0.1"), NUMBER, id="a confidence below 0"),
        pytest.param(rule(OBSERVE + "confidence_at_least = nan"), NUMBER, id="a confidence that is no number"),
        pytest.param(rule(OBSERVE + "confidence_at_least = true"), NUMBER, id="a confidence that is true"),
        pytest.param(rule(OBSERVE + 'confidence_at_least = "0.9"'), NUMBER, id="a confidence in quotes"),
        pytest.param(window('"22:00-06:00"'), "rules.a.time_of_day: expected a table", id="a time that is no table"),
        pytest.param(window('{ from = "22:00", until = "06:00" }'), "rules.a.time_of_day.zone: is required", id="no zone"),
        pytest.param(window('{ from = "22:00", zone = "UTC" }'), "rules.a.time_of_day.until: is required", id="no end"),
        pytest.param(window('{ from = "22:00", untill = "06:00", until = "06:00", zone = "UTC" }'), "rules.a.time_of_day.untill: unknown key; did you mean until?", id="a key of the time misspelt"),
        pytest.param(window('{ from = "22", until = "06:00", zone = "UTC" }'), f"rules.a.time_of_day.from: {CLOCK}", id="hours alone"),
        pytest.param(window('{ from = "22:00", until = "24:00", zone = "UTC" }'), f"rules.a.time_of_day.until: {CLOCK}", id="24 o'clock"),
        pytest.param(window('{ from = 22, until = "06:00", zone = "UTC" }'), f"rules.a.time_of_day.from: {CLOCK}", id="a time that is a number"),
        pytest.param(window('{ from = "06:00", until = "06:00", zone = "UTC" }'), "rules.a.time_of_day: from and until are the same; for the whole day, leave time_of_day out", id="a time without length"),
        pytest.param(window('{ from = "22:00", until = "06:00", zone = "Europe/Berln" }'), "rules.a.time_of_day.zone: there is no time zone 'Europe/Berln' on this machine; expected one such as \"UTC\" or \"Europe/Berlin\"", id="an unknown zone"),
        pytest.param(window('{ from = "22:00", until = "06:00", zone = "Europe" }'), "rules.a.time_of_day.zone: there is no time zone 'Europe' on this machine; expected one such as \"UTC\" or \"Europe/Berlin\"", id="a continent"),
        pytest.param(window('{ from = "22:00", until = "06:00", zone = "../passwd" }'), "rules.a.time_of_day.zone: there is no time zone '../passwd' on this machine; expected one such as \"UTC\" or \"Europe/Berlin\"", id="a path"),
        pytest.param(window('{ from = "22:00", until = "06:00", zone = 2 }'), 'rules.a.time_of_day.zone: there is no time zone 2 on this machine; expected one such as "UTC" or "Europe/Berlin"', id="an offset"),
    ],
)  # fmt: skip
def test_a_problem_is_reported_with_its_place(content: str, problem: str) -> None:
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(content.encode())
    assert caught.value.problems == [problem]


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(b'[rules.a]\nactions = ["NO_ACTION"]\n[rules.b]\nrisks = ["LOW"]\nwhy = "x"\n')
    assert caught.value.problems == [
        "rules.a.risks: is required",
        "rules.b.actions: is required",
        "rules.b.why: unknown key; known are actions, risks, namespaces, hooks, confidence_at_least, severities, time_of_day",
    ]
    assert str(caught.value) == "; ".join(caught.value.problems)


def test_invalid_utf8_is_reported_with_its_line() -> None:
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(b"# one\n# two \xff\n")
    assert caught.value.problems == ["is not UTF-8 (at line 2)"]


WHOLE_DOCUMENT = (Path(__file__).parents[4] / "docs/policy.md").read_text(encoding="utf-8")
# The routes have a test of their own.
DOCUMENT = re.sub(r"\n## Routes of notifications\n.*?(?=\n## )", "", WHOLE_DOCUMENT, flags=re.DOTALL)
[EXAMPLE] = re.findall(r"```toml\n(.*?)```", DOCUMENT, flags=re.DOTALL)
DECIDED = re.findall(
    r"^\| `(.*)` \| `(.*)` \| (.*) \| `(.*)` \| (.*) UTC \| `?(.*?)`? \|$", DOCUMENT, flags=re.MULTILINE
)


@pytest.mark.parametrize("documented", DECIDED, ids=" ".join)
def test_the_documented_policy_approves_as_documented(documented: Sequence[str]) -> None:
    action, risk, confidence, severity, at, approved_by = documented
    approval = new_approval(
        action,
        risk=Risk(risk),
        confidence=None if confidence == "none" else float(confidence),
        create_time=datetime.fromisoformat(f"{at}Z"),
    )
    rule = parse_policy(EXAMPLE.encode()).find_rule(approval, Severity(severity))
    assert (rule.name if rule else "people") == approved_by


def test_every_documented_rule_approves_something() -> None:
    assert {rule.name for rule in parse_policy(EXAMPLE.encode()).rules} | {"people"} == {
        approved_by for *_, approved_by in DECIDED
    }


def test_every_key_of_a_rule_is_documented() -> None:
    keys = re.findall(r"^\| `([a-z_]+)` \| (required.*|) *\|", DOCUMENT, flags=re.MULTILINE)
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(rule(OBSERVE + "x = 1").encode())
    known = str(caught.value).partition("known are ")[2].split(", ")
    assert [key for key, _ in keys] == known


def test_the_documented_mistake_is_reported_as_documented() -> None:
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(f'[rules.observe]\n{OBSERVE}severites = ["LOW"]'.encode())
    assert f"APPROVAL_POLICY_FILE: /etc/flywheel/policy.toml: {caught.value}\n" in DOCUMENT
