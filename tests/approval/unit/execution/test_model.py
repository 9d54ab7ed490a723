"""The outcomes of executions that need no executor."""

import dataclasses

import pytest

from approval.delivery.model import ResolutionType
from approval.execution.model import ExecuteCommand, Outcome, outcome_without_executor
from approval.model import ExecutionOutcome, Operation, OperationKind, State
from tests.approval.unit.proposed import new_approval

APPROVAL = new_approval("NO_ACTION: observe first", state=State.APPROVED)


def test_a_no_action_succeeds_and_resolves_without_counting_as_a_repair() -> None:
    assert outcome_without_executor(APPROVAL) == Outcome(
        State.SUCCEEDED, "observed only", ExecutionOutcome.NOOP, ResolutionType.NO_ACTION
    )


def test_an_action_that_cannot_be_parsed_fails_and_resolves_nothing() -> None:
    unparsable = new_approval("please have a look", parse_error="at character 1: no")
    assert outcome_without_executor(unparsable) == Outcome(
        State.FAILED, "cannot parse action: at character 1: no", ExecutionOutcome.FAILED, None
    )


@pytest.mark.parametrize("kind", [kind for kind in OperationKind if kind is not OperationKind.NO_ACTION])
def test_an_operation_has_no_outcome_without_an_executor(kind: OperationKind) -> None:
    assert outcome_without_executor(dataclasses.replace(APPROVAL, operation=Operation(kind))) is None


def test_an_indeterminate_approval_is_executed_again_only_with_resume_indeterminate() -> None:
    assert ExecuteCommand("").allowed == (State.APPROVED,)
    assert ExecuteCommand("", resume_indeterminate=True).allowed == (State.APPROVED, State.INDETERMINATE)
