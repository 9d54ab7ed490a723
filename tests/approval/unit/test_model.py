"""The rules of approvals, without a database."""

import dataclasses
import re
from datetime import UTC, datetime, timedelta

import pytest

from approval.model import (
    ALLOWED_FROM,
    Approval,
    ExecutionOutcome,
    Operation,
    OperationKind,
    Outcome,
    Proposal,
    ResolutionType,
    Risk,
    State,
    Transition,
    action_hash,
    can_be_executed,
    new_approval_id,
    outcome_without_executor,
)

NOW = datetime(2026, 5, 7, 12, tzinfo=UTC)
NO_ACTION = Operation(OperationKind.NO_ACTION)
SCALE = Operation(OperationKind.SCALE, "deployment", "api", "prod", replicas=3)

APPROVAL = Approval(
    approval_id="APR-20260507-99ADF2",
    incident_id="INC-20260507-99ADF2",
    action="NO_ACTION: observe first",
    operation=NO_ACTION,
    parse_error="",
    action_hash="",
    risk=Risk.LOW,
    rationale="",
    confidence=None,
    required_approvals=1,
    auto_execute=True,
    state=State.APPROVED,
    proposed_by="ai",
    incident_verified=True,
    create_time=NOW,
    update_time=NOW,
    expire_time=NOW + timedelta(hours=24),
    decide_time=NOW,
    execute_time=None,
    finish_time=None,
    outcome_message="",
    cancelled_by="",
    incident_resolve_time=None,
    version=7,
    decisions=(),
    is_past_expiry=False,
)
PROPOSAL = Proposal(
    incident_id="INC-20260507-99ADF2",
    action="NO_ACTION",
    risk=Risk.LOW,
    rationale="why",
    confidence=0.5,
    ttl=timedelta(hours=1),
    required_approvals=1,
    auto_execute=True,
)

TRANSITIONS = {
    Transition.APPROVE: {State.PENDING},
    Transition.REJECT: {State.PENDING},
    Transition.CANCEL: {State.PENDING, State.APPROVED, State.INDETERMINATE},
    Transition.EXECUTE: {State.APPROVED},
}


@pytest.mark.parametrize("transition", Transition)
def test_a_transition_starts_from_the_states_of_the_contract_and_no_other(transition: Transition) -> None:
    assert set(ALLOWED_FROM[transition]) == TRANSITIONS[transition]


@pytest.mark.parametrize("state", State)
def test_an_approval_within_its_time_is_in_the_state_that_is_stored(state: State) -> None:
    assert dataclasses.replace(APPROVAL, state=state).effective_state is state


@pytest.mark.parametrize("state", State)
def test_past_its_time_only_what_still_waits_counts_as_expired(state: State) -> None:
    late = dataclasses.replace(APPROVAL, state=state, is_past_expiry=True)
    waits = state in (State.PENDING, State.APPROVED)
    assert late.effective_state is (State.EXPIRED if waits else state)


def test_the_etag_follows_the_version() -> None:
    assert APPROVAL.etag != dataclasses.replace(APPROVAL, version=8).etag


def test_a_no_action_succeeds_and_resolves_without_counting_as_a_repair() -> None:
    assert outcome_without_executor(APPROVAL) == Outcome(
        State.SUCCEEDED, "observed only", ExecutionOutcome.NOOP, ResolutionType.NO_ACTION
    )


def test_an_action_that_cannot_be_parsed_fails_and_resolves_nothing() -> None:
    unparsable = dataclasses.replace(APPROVAL, operation=None, parse_error="at character 1: no")
    assert outcome_without_executor(unparsable) == Outcome(
        State.FAILED, "cannot parse action: at character 1: no", ExecutionOutcome.FAILED, None
    )


@pytest.mark.parametrize("kind", [kind for kind in OperationKind if kind is not OperationKind.NO_ACTION])
def test_a_real_operation_has_no_outcome_before_an_executor_ran_it(kind: OperationKind) -> None:
    assert outcome_without_executor(dataclasses.replace(APPROVAL, operation=Operation(kind))) is None


@pytest.mark.parametrize("kind", OperationKind)
def test_what_has_no_executor_cannot_be_executed_except_no_action(kind: OperationKind) -> None:
    assert can_be_executed(Operation(kind), ()) is (kind is OperationKind.NO_ACTION)
    assert can_be_executed(Operation(kind), {kind})


def test_failing_for_want_of_an_operation_needs_no_executor() -> None:
    assert can_be_executed(None, ())


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
def test_whatever_changes_in_an_action_or_its_target_changes_the_hash(
    other: tuple[str, Operation | None],
) -> None:
    assert action_hash("action", SCALE) == action_hash("action", dataclasses.replace(SCALE))
    assert action_hash(*other) != action_hash("action", SCALE)


def test_the_hash_is_a_sha256_in_lower_case_hexadecimal() -> None:
    assert re.fullmatch("[0-9a-f]{64}", action_hash("NO_ACTION", NO_ACTION))


@pytest.mark.parametrize(
    "change",
    [
        {"incident_id": "INC-20260507-000000"},
        {"action": "no_action"},
        {"risk": Risk.HIGH},
        {"rationale": ""},
        {"confidence": None},
        {"ttl": timedelta(hours=2)},
        {"required_approvals": 2},
        {"auto_execute": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_proposal_with_other_content_is_another_proposal(change: dict[str, object]) -> None:
    changed = dataclasses.replace(PROPOSAL, **change)  # type: ignore[arg-type]  # fields of the class
    assert changed.content_hash() != PROPOSAL.content_hash()


def test_a_retry_has_the_same_content_whatever_its_request_id() -> None:
    assert dataclasses.replace(PROPOSAL, request_id="again").content_hash() == PROPOSAL.content_hash()


@pytest.mark.parametrize(("attempt", "digits"), [(0, 6), (1, 8), (2, 10), (3, 12), (9, 12)])
def test_an_id_has_the_shape_operators_know_and_widens_after_a_collision(attempt: int, digits: int) -> None:
    approval_id = new_approval_id(attempt=attempt, now=NOW)
    assert re.fullmatch(rf"APR-20260507-[0-9A-F]{{{digits}}}", approval_id)


def test_ids_are_random() -> None:
    assert len({new_approval_id(attempt=3, now=NOW) for _ in range(100)}) == 100
