"""docs/actions.md describes the grammar that the service parses."""

import re
from pathlib import Path

import pytest

from approval.actions import grammar
from approval.actions.grammar import ActionSyntaxError, format_operation, parse_action

ACTIONS = (Path(__file__).parents[4] / "docs/actions.md").read_text(encoding="utf-8")
EXAMPLES, GRAMMAR = re.findall(r"```text\n(.*?)```", ACTIONS, flags=re.DOTALL)
REASONS = re.findall(r"^\| `(.*)` \| (at character .*) \|$", ACTIONS, flags=re.MULTILINE)


@pytest.mark.parametrize("action", EXAMPLES.splitlines())
def test_an_example_is_an_action(action: str) -> None:
    operation = parse_action(action)
    assert parse_action(format_operation(operation)) == operation


@pytest.mark.parametrize(("action", "reason"), REASONS, ids=[action for action, _ in REASONS])
def test_a_documented_syntax_error_has_the_documented_reason(action: str, reason: str) -> None:
    with pytest.raises(ActionSyntaxError) as caught:
        parse_action(action)
    assert str(caught.value) == reason


def test_the_documented_grammar_is_that_of_the_parser() -> None:
    inside = (grammar.__doc__ or "").split("\n\n")[1]
    assert GRAMMAR.split() == inside.split()
