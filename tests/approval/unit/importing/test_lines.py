"""A line of an approval, field by field, and the row that is written of it."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from approval.actions.parsed import parse
from approval.importing.lines import ApprovalLine
from approval.importing.rows import approval_row
from servicekit.importing.fields import wrong_fields
from tests.imports import LONG_AGO, approval, at, pending_approval

NOW = LONG_AGO.replace(year=LONG_AGO.year + 1)
LATER = NOW.replace(year=NOW.year + 1).isoformat()
RESTART = "RESTART deployment/api -n prod"
UNPARSABLE = "please have a look"
YES = {"actor": "alice", "kind": "APPROVE"}
NO = {"actor": "bob", "kind": "REJECT"}


def mistakes(line: dict[str, Any]) -> list[tuple[str, str]]:
    try:
        return list(ApprovalLine.model_validate_json(json.dumps(line)).contradictions(NOW))
    except ValidationError as exc:
        return list(wrong_fields(exc))


def row(line: dict[str, Any]) -> dict[str, Any]:
    return dict(approval_row(ApprovalLine.model_validate_json(json.dumps(line))))


def unfinished(state: str, **fields: Any) -> dict[str, Any]:
    return approval(1, **({"state": state, "finish_time": ...} | fields))


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(approval(), id="executed, not acknowledged"),
        pytest.param(approval(incident_resolve_time=at(37)), id="observed and acknowledged"),
        pytest.param(pending_approval(), id="pending"),
        pytest.param(
            pending_approval(required_approvals=2, decisions=[YES], auto_execute=True), id="one of two"
        ),
        pytest.param(unfinished("APPROVED", auto_execute=False), id="approved"),
        pytest.param(unfinished("REJECTED", decisions=[NO]), id="rejected"),
        pytest.param(
            unfinished("REJECTED", decisions=[YES, NO], required_approvals=2), id="one agreed, one did not"
        ),
        pytest.param(unfinished("EXPIRED", decisions=...), id="expired"),
        pytest.param(unfinished("CANCELLED", decisions=..., cancelled_by="bob"), id="cancelled"),
        pytest.param(approval(action=RESTART, executor="kubernetes", outcome_message="done"), id="repaired"),
        pytest.param(approval(action=RESTART, state="FAILED", outcome_message="403"), id="failed"),
        pytest.param(approval(action=UNPARSABLE, state="FAILED"), id="failed for want of an action"),
        pytest.param(approval(action=RESTART, state="INDETERMINATE"), id="indeterminate"),
        pytest.param(approval(confidence=0.5, rationale=None, executor=None, expire_time=at(999)), id="null"),
        pytest.param(approval(confidence=1), id="a whole number"),
        pytest.param(
            approval(decisions=[{**YES, "policy_rule": "observe", "decide_time": at(33)}]), id="a policy"
        ),
    ],
)
def test_a_valid_line_has_no_problem(line: dict[str, Any]) -> None:
    assert mistakes(line) == []


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        pytest.param(approval(approval_id="APR-1"), "approval_id", "expected APR-YYYYMMDD-", id="id"),
        pytest.param(
            approval(incident_id="APR-20250507-000001"), "incident_id", "expected INC-", id="incident's id"
        ),
        pytest.param(approval(action=" "), "action", "must not be blank", id="blank action"),
        pytest.param(
            approval(action="x" * 1025, state="FAILED"), "action", "is longer than 1024", id="long action"
        ),
        pytest.param(
            approval(action="NO_ACTION:\0"), "action", "must not contain the character U+0000", id="NUL"
        ),
        pytest.param(
            approval(action=UNPARSABLE), "action", "cannot be parsed and so cannot be SUCCEEDED", id="parse"
        ),
        pytest.param(approval(risk="NONE"), "risk", "expected LOW, MEDIUM, HIGH or CRITICAL", id="risk"),
        pytest.param(approval(state="DONE"), "state", "expected PENDING, APPROVED", id="unknown state"),
        pytest.param(approval(state="EXECUTING"), "state", "EXECUTING cannot be imported", id="executing"),
        pytest.param(
            approval(state="FAILED"), "state", "a NO_ACTION is never FAILED", id="failed to observe"
        ),
        pytest.param(
            approval(state="INDETERMINATE"), "state", "a NO_ACTION is never INDET", id="lost while observing"
        ),
        pytest.param(
            approval(rationale="é" * 4097), "rationale", "is longer than 8192 bytes", id="rationale"
        ),
        pytest.param(
            approval(confidence=1.1), "confidence", "expected less than or equal to 1", id="too sure"
        ),
        pytest.param(
            approval(confidence=True), "confidence", "expected a valid number", id="sure is no number"
        ),
        pytest.param(
            approval(required_approvals=0), "required_approvals", "expected greater than", id="no quorum"
        ),
        pytest.param(
            approval(required_approvals=11), "required_approvals", "expected less than", id="big quorum"
        ),
        pytest.param(approval(auto_execute="yes"), "auto_execute", "expected a valid boolean", id="yes"),
        pytest.param(approval(proposed_by=...), "proposed_by", "is required", id="without a proposer"),
        pytest.param(
            approval(incident=1), "incident", "is not a field of such a line", id="an unknown field"
        ),
        pytest.param(
            approval(executor="x"), "executor", "nothing ran a NO_ACTION", id="an executor of nothing"
        ),
        pytest.param(
            unfinished("APPROVED", auto_execute=True),
            "auto_execute",
            "an import executes nothing",
            id="to be run",
        ),
        pytest.param(
            approval(decide_time=...), "decide_time", "is required when the state is SUCC", id="decided when"
        ),
        pytest.param(
            approval(finish_time=...), "finish_time", "is required when the state is SUCC", id="executed when"
        ),
        pytest.param(
            unfinished("APPROVED", finish_time=at(36)), "finish_time", "does not go with", id="not executed"
        ),
        pytest.param(
            pending_approval(decide_time=at(35)), "decide_time", "does not go with", id="not decided"
        ),
        pytest.param(
            unfinished("APPROVED", incident_resolve_time=at(39)),
            "incident_resolve_time",
            "does not go",
            id="not acknowledged",
        ),
        pytest.param(
            pending_approval(outcome_message="x"), "outcome_message", "does not go with", id="no outcome yet"
        ),
        pytest.param(
            unfinished("CANCELLED", decisions=...), "cancelled_by", "is required when", id="cancelled by whom"
        ),
        pytest.param(approval(cancelled_by="bob"), "cancelled_by", "does not go with", id="not cancelled"),
        pytest.param(
            approval(decide_time=at(31)), "decide_time", "is before create_time", id="decided too early"
        ),
        pytest.param(
            approval(finish_time=at(31), decide_time=at(32)),
            "finish_time",
            "is before decide_time",
            id="before created",
        ),
        pytest.param(
            approval(execute_time=at(37)), "finish_time", "is before execute_time", id="ended before it began"
        ),
        pytest.param(approval(finish_time=LATER), "finish_time", "lies in the future", id="future"),
        pytest.param(
            approval(incident_resolve_time=at(35)),
            "incident_resolve_time",
            "is before finish_time",
            id="acknowledged too early",
        ),
        pytest.param(
            approval(expire_time=at(32)), "expire_time", "must be after create_time", id="expired at once"
        ),
        pytest.param(
            approval(expire_time=LATER), "expire_time", "must be after create_time, by 30", id="for years"
        ),
        pytest.param(
            unfinished(
                "EXPIRED",
                create_time=at(364 * 86400),
                decide_time=at(364.5 * 86400),
                decisions=...,
                expire_time=at(370 * 86400),
            ),
            "expire_time",
            "lies in the future",
            id="not expired yet",
        ),
        pytest.param(
            approval(decisions=...),
            "decisions",
            "the state SUCCEEDED needs 1 that APPROVE",
            id="without decisions",
        ),
        pytest.param(
            approval(required_approvals=2), "decisions", "the state SUCCEEDED needs 2", id="one of two"
        ),
        pytest.param(
            approval(decisions=[YES, NO]), "decisions[1].kind", "REJECT does not go with", id="yes and no"
        ),
        pytest.param(
            approval(decisions=[{"actor": "ai", "kind": "APPROVE"}]),
            "decisions[0].actor",
            "a proposer never decides about",
            id="own",
        ),
        pytest.param(approval(decisions=[YES, YES]), "decisions[1].actor", "has decided before", id="twice"),
        pytest.param(
            pending_approval(decisions=[YES]), "decisions", "with 1 that APPROVE", id="approved and pending"
        ),
        pytest.param(
            unfinished("REJECTED", decisions=...), "decisions", "the state REJECTED needs", id="by whom"
        ),
        pytest.param(
            approval(decisions=[{**YES, "kind": "YES"}]),
            "decisions[0].kind",
            "expected APPROVE or",
            id="neither yes nor no",
        ),
        pytest.param(
            approval(decisions=[{**YES, "why": ""}]), "decisions[0].why", "is not a field", id="why"
        ),
        pytest.param(
            approval(decisions=[{**YES, "decide_time": at(31)}]),
            "decisions[0].decide_time",
            "is before create",
            id="early",
        ),
        pytest.param(
            approval(decisions=[{**YES, "decide_time": at(36)}]),
            "decisions[0].decide_time",
            "is after decide",
            id="late",
        ),
    ],
)
def test_a_bad_field_is_named(line: dict[str, Any], field: str, reason: str) -> None:
    ((found, said),) = mistakes(line)
    assert found == field
    assert said.startswith(reason)


@pytest.mark.parametrize(
    ("line", "counted_as", "message"),
    [
        pytest.param(approval(), "NOOP", "observed only", id="observed"),
        pytest.param(
            approval(action=RESTART, outcome_message="3 pods"), "SUCCEEDED", "3 pods", id="repaired"
        ),
        pytest.param(
            approval(action=UNPARSABLE, state="FAILED"),
            "FAILED",
            "cannot parse action: at character 1: expected NO_ACTION, RESTART, SCALE, DELETE, ROLLBACK or HTTP",
            id="not parsed",
        ),
        pytest.param(
            approval(action=RESTART, state="INDETERMINATE"), "INDETERMINATE", "", id="indeterminate"
        ),
        pytest.param(unfinished("REJECTED", decisions=[{**NO, "reason": "no"}]), None, "no", id="rejected"),
        pytest.param(pending_approval(), None, "", id="pending"),
    ],
)
def test_an_outcome_is_counted_and_described_as_by_a_call(
    line: dict[str, Any], counted_as: str | None, message: str
) -> None:
    written = row(line)
    assert (written["counted_as"], written["outcome_message"]) == (counted_as, message)


def test_only_an_operation_that_ran_to_its_end_is_in_the_execution_log() -> None:
    assert row(approval())["execution"] is None
    assert row(approval(action=UNPARSABLE, state="FAILED"))["execution"] is None
    assert row(approval(action=RESTART, state="INDETERMINATE"))["execution"] is None
    failed = row(approval(action=RESTART, state="FAILED", outcome_message="403", executor="kubernetes"))
    assert failed["execution"] == {
        "operation": {
            "kind": "RESTART",
            "resource_kind": "deployment",
            "name": "api",
            "namespace": "prod",
            "replicas": None,
            "hook": "",
        },
        "succeeded": False,
        "output": "",
        "error": "403",
        "executor": "kubernetes",
        "start_time": at(36),
        "finish_time": at(36),
    }


def test_texts_are_normalized_as_by_the_rpcs() -> None:
    found = row(approval(action="\nNO_ACTION:\n\nRESTART deployment/web -n shop\n", rationale="a\r\nb\x1b"))
    assert found["action"] == "NO_ACTION: RESTART deployment/web -n shop"
    assert found["action_hash"] == parse("NO_ACTION: RESTART deployment/web -n shop").hash
    assert found["rationale"] == "a\nb "


def test_self_approval_under_another_normalization_form_is_refused() -> None:
    line = approval(proposed_by="Jos\u00e9", decisions=[{"actor": "Jose\u0301", "kind": "APPROVE"}])
    assert mistakes(line) == [("decisions[0].actor", "a proposer never decides about its own proposal")]


def test_an_actor_counts_once_in_any_normalization_form() -> None:
    agreeing = [{"actor": actor, "kind": "APPROVE"} for actor in ("Jos\u00e9", " Jose\u0301")]
    assert mistakes(approval(required_approvals=2, decisions=agreeing)) == [
        ("decisions[1].actor", "has decided before")
    ]


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        pytest.param("\u200b", "must not be blank", id="invisible"),
        pytest.param("NO_ACTION: \x1b[2J", "must not contain control", id="an escape character"),
        pytest.param("NO_ACTION: \u202edorp", "must not contain control", id="an override"),
    ],
)
def test_an_action_that_cannot_be_shown_is_refused(action: str, reason: str) -> None:
    [(field, said)] = mistakes(approval(action=action))
    assert field == "action"
    assert said.startswith(reason)
