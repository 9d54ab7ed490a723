"""The rules of approvals, without a database."""

import dataclasses
import re
from datetime import timedelta

import pytest

from approval.model import (
    ALLOWED_FROM,
    Operation,
    OperationKind,
    Proposal,
    Risk,
    State,
    Transition,
    can_be_executed,
)
from tests.approval.unit.proposed import new_approval

APPROVAL = new_approval("NO_ACTION: observe first", version=7)
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
def test_before_its_expiry_an_approval_is_in_its_stored_state(state: State) -> None:
    assert dataclasses.replace(APPROVAL, state=state).effective_state is state


@pytest.mark.parametrize("state", State)
def test_past_its_expiry_only_a_pending_or_approved_approval_counts_as_expired(state: State) -> None:
    late = dataclasses.replace(APPROVAL, state=state, is_past_expiry=True)
    waits = state in (State.PENDING, State.APPROVED)
    assert late.effective_state is (State.EXPIRED if waits else state)


def test_the_etag_follows_the_version_and_its_time() -> None:
    assert APPROVAL.etag == dataclasses.replace(APPROVAL).etag
    assert APPROVAL.etag != dataclasses.replace(APPROVAL, version=8).etag
    later = APPROVAL.update_time + timedelta(microseconds=1)
    assert APPROVAL.etag != dataclasses.replace(APPROVAL, update_time=later).etag
    assert re.fullmatch(r"[!-~]{1,128}", APPROVAL.etag)


@pytest.mark.parametrize("kind", OperationKind)
def test_only_a_no_action_can_be_executed_without_an_executor(kind: OperationKind) -> None:
    assert can_be_executed(Operation(kind), ()) is (kind is OperationKind.NO_ACTION)
    assert can_be_executed(Operation(kind), {kind})


def test_an_unparsable_action_needs_no_executor_to_fail() -> None:
    assert can_be_executed(None, ())


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
def test_the_content_hash_depends_on_every_other_field(change: dict[str, object]) -> None:
    changed = dataclasses.replace(PROPOSAL, **change)  # type: ignore[arg-type]  # fields of the class
    assert changed.content_hash() != PROPOSAL.content_hash()


def test_the_content_hash_does_not_depend_on_the_request_id() -> None:
    assert dataclasses.replace(PROPOSAL, request_id="again").content_hash() == PROPOSAL.content_hash()
