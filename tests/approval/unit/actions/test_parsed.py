"""What an action was parsed as, and its hash."""

import dataclasses
import re

import pytest

from approval.actions.parsed import action_hash, is_unchanged, parse
from approval.model import Operation, OperationKind
from tests.approval.unit.proposed import new_approval

NO_ACTION = Operation(OperationKind.NO_ACTION)
SCALE = Operation(OperationKind.SCALE, "deployment", "api", "prod", replicas=3)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(("other", SCALE), id="action"),
        pytest.param(("action", None), id="unparsable"),
        pytest.param(("action", NO_ACTION), id="kind"),
        pytest.param(("action", dataclasses.replace(SCALE, resource_kind="statefulset")), id="resource_kind"),
        pytest.param(("action", dataclasses.replace(SCALE, name="web")), id="name"),
        pytest.param(("action", dataclasses.replace(SCALE, namespace="test")), id="namespace"),
        pytest.param(("action", dataclasses.replace(SCALE, replicas=30)), id="replicas"),
        pytest.param(("action", dataclasses.replace(SCALE, hook="hook")), id="hook"),
    ],
)
def test_the_action_hash_depends_on_the_action_and_every_field_of_its_operation(
    other: tuple[str, Operation | None],
) -> None:
    assert action_hash("action", SCALE) == action_hash("action", dataclasses.replace(SCALE))
    assert action_hash(*other) != action_hash("action", SCALE)


def test_the_hash_is_a_sha256_in_lower_case_hexadecimal() -> None:
    assert re.fullmatch("[0-9a-f]{64}", action_hash("NO_ACTION", NO_ACTION))


def test_a_syntax_error_is_kept_in_place_of_the_operation() -> None:
    parsed = parse("please have a look")
    assert parsed.operation is None
    assert parsed.error.startswith("at character 1: ")
    assert parsed.hash == action_hash("please have a look", None)


@pytest.mark.parametrize("action", ["NO_ACTION", "RESTART deployment/api -n prod", "please have a look"])
def test_an_action_is_unchanged_while_it_is_parsed_as_it_was(action: str) -> None:
    approval = new_approval(action)
    assert is_unchanged(approval)
    assert not is_unchanged(dataclasses.replace(approval, operation=SCALE))
    assert not is_unchanged(dataclasses.replace(approval, action_hash="another"))
