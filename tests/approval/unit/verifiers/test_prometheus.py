"""The verifier prometheus against a real HTTP server."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from approval.verifiers.prometheus import make_verifier
from approval.verifiers.protocol import CannotTellError, Look, Repair
from tests.approval.unit.verifiers.repaired import answer, answering, repair
from tests.receiver import Answer, status

EXPRESSION = 'up{job="api"} == 0'
OF_INCIDENT = repair(labels={"recovery_expression": EXPRESSION})
RUNNING = answer({"status": "success", "data": {"startTime": "2026-05-07T11:00:00Z"}})
RULES = """
[rules.restarts]
actions = ["RESTART"]
namespaces = ["prod"]
labels = { alertname = "ApiDown" }
expression = 'up{job="api"} == 0'

[rules.hooks]
hooks = ["flush"]
expression = "queue_length > 100"

[rules.others]
namespaces = ["stage"]
expression = "vector(1)"
"""


def result(*series: Any, kind: str = "vector", **more: Any) -> Answer:
    return answer({"status": "success", "data": {"resultType": kind, "result": list(series)}, **more})


async def look(
    repaired: Repair, answers: Sequence[Answer], variables: Mapping[str, str] | None = None
) -> tuple[Look, str]:
    async with answering(*answers) as (api, environment):
        verifier = make_verifier({**environment, **(variables or {})})
        try:
            found = await verifier.look(repaired)
        finally:
            await verifier.close()
        return found, dict(parse_qsl(urlsplit(api.requests[0].target).query))["query"]


async def test_an_expression_without_a_result_is_a_problem_that_is_gone() -> None:
    found, expression = await look(OF_INCIDENT, [result(), RUNNING])
    assert found == Look(gone=True, message="the expression of the incident has no result")
    assert expression == EXPRESSION


async def test_an_expression_with_a_result_is_a_problem_that_is_there() -> None:
    found, _ = await look(OF_INCIDENT, [result({"metric": {}, "value": [1, "0"]})])
    assert found == Look(gone=False, message="the expression of the incident has a result")


@pytest.mark.parametrize(
    ("repaired", "whose", "expression"),
    [
        pytest.param(repair(), "the rule restarts", EXPRESSION, id="by action, namespace and label"),
        pytest.param(repair("HTTP POST flush"), "the rule hooks", "queue_length > 100", id="by hook"),
        pytest.param(
            repair(labels={"alertname": "ApiDown", "recovery_expression": "vector(0)"}),
            "the incident",
            "vector(0)",
            id="the incident's own comes first",
        ),
    ],
)
async def test_the_first_rule_that_fits_has_the_expression(
    tmp_path: Path, repaired: Repair, whose: str, expression: str
) -> None:
    path = tmp_path / "expressions.toml"
    path.write_text(RULES)
    variables = {"APPROVAL_VERIFIER_EXPRESSIONS_FILE": str(path)}
    found, asked = await look(repaired, [result(), RUNNING], variables)
    assert (found.message, asked) == (f"the expression of {whose} has no result", expression)


@pytest.mark.parametrize(
    ("repaired", "answers", "reason"),
    [
        pytest.param(repair(), [], "no label recovery_expression, and no rule fits", id="no expression"),
        pytest.param(OF_INCIDENT, [status(400)], "answered 400", id="a bad expression"),
        pytest.param(OF_INCIDENT, [answer([])], "not the result of a query", id="no result"),
        pytest.param(OF_INCIDENT, [answer({"status": "error"})], "not the result of a query", id="an error"),
        pytest.param(OF_INCIDENT, [result(kind="scalar")], "not an instant vector", id="a number"),
        pytest.param(
            OF_INCIDENT, [result(warnings=["partial"]), RUNNING], "may be wrong", id="a part of the data"
        ),
        pytest.param(
            OF_INCIDENT,
            [result(), answer({"data": {"startTime": "2026-05-07T11:59:00Z"}})],
            "less than 120 s",
            id="just started",
        ),
        pytest.param(OF_INCIDENT, [result(), answer([])], "since when it runs", id="no start"),
    ],
)
async def test_an_undetermined_problem_is_not_gone(
    repaired: Repair, answers: Sequence[Answer], reason: str
) -> None:
    with pytest.raises(CannotTellError, match=reason):
        await look(repaired, answers)


async def test_a_system_that_does_not_say_since_when_it_runs_is_believed() -> None:
    found, _ = await look(OF_INCIDENT, [result(), status(404)])
    assert found.gone


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("rules = 1", "rules: ", id="no rules"),
        pytest.param("[rules.a]", "rules.a.expression: ", id="no expression"),
        pytest.param('[rules.a]\nexpression = " "', "rules.a.expression: ", id="a blank expression"),
        pytest.param('[rules.a]\nexpression = "up"\nnamespace = "a"', "rules.a.namespace: ", id="unknown"),
        pytest.param('[rules."A b"]\nexpression = "up"', 'rules."A b": ', id="a name"),
        pytest.param("[rules", "is not TOML", id="no TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_place(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "expressions.toml"
    path.write_text(text)
    environment = {
        "APPROVAL_VERIFIER_URL": "http://127.0.0.1:9090",
        "APPROVAL_VERIFIER_EXPRESSIONS_FILE": str(path),
    }
    with pytest.raises(ValueError, match=f"APPROVAL_VERIFIER_EXPRESSIONS_FILE: .*{reason}"):
        make_verifier(environment)
