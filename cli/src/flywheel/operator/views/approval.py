"""Approvals, executions, and changes of approvals."""

from collections.abc import Iterable
from typing import Final

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from flywheel.operator.output.cells import age, clock, enum_name, line, time
from flywheel.operator.output.view import Column, View

_Approval = approval_pb2.Approval


def state_name(number: int) -> str:
    """Return a state."""
    return enum_name(_Approval.State, "STATE_", number)


def state(approval: _Approval) -> str:
    """Return the state."""
    return state_name(approval.state)


def risk(approval: _Approval) -> str:
    """Return the risk."""
    return enum_name(approval_pb2.Risk, "RISK_", approval.risk)


def recovery(approval: _Approval) -> str:
    """Return whether it has helped."""
    return enum_name(approval_pb2.Recovery, "RECOVERY_", approval.recovery)


def decision(made: approval_pb2.Decision) -> str:
    """Return a decision on one line."""
    kind = enum_name(approval_pb2.Decision.Kind, "KIND_", made.kind)
    return "  ".join(filter(None, [clock(made.decide_time), kind, made.actor, line(made.reason)]))


def _quorum(approval: _Approval) -> str:
    given = sum(each.kind == approval_pb2.Decision.KIND_APPROVE for each in approval.decisions)
    return f"{given}/{approval.required_approvals}"


def _lines(decisions: Iterable[approval_pb2.Decision]) -> str:
    # With a line break at the end, so that a single one comes below its title, too.
    return "".join(f"{decision(each)}\n" for each in decisions)


APPROVAL: Final = View[_Approval](
    "approvals",
    columns=[
        Column("ID", lambda each: each.approval_id),
        Column("INCIDENT", lambda each: each.incident_id),
        Column("RISK", risk),
        Column("STATE", state),
        Column("QUORUM", _quorum),
        Column("AGE", lambda each: age(each, "create_time")),
        Column("PROPOSED BY", lambda each: each.proposed_by, wide=True),
        Column("PROPOSED", lambda each: time(each, "create_time"), wide=True),
        Column("EXPIRES", lambda each: time(each, "expire_time"), wide=True),
        Column("AUTO", lambda each: "yes" if each.auto_execute else "no", wide=True),
        Column("RECOVERY", recovery, wide=True),
        Column("ACTION", lambda each: each.action),
    ],
    details=[
        Column("PARSE ERROR", lambda each: each.parse_error),
        Column("VERIFIED", lambda each: "yes" if each.incident_verified else "no"),
        Column("DECIDED", lambda each: time(each, "decide_time")),
        Column("EXECUTED", lambda each: time(each, "execute_time")),
        Column("FINISHED", lambda each: time(each, "finish_time")),
        Column("RESOLVED", lambda each: time(each, "incident_resolve_time")),
        Column("UNKNOWN SINCE", lambda each: time(each, "incident_unknown_time")),
        Column("RECOVERY BY", lambda each: time(each, "recovery_deadline")),
        Column("FOUND", lambda each: each.recovery_message),
        Column("SUPERSEDES", lambda each: each.supersedes),
        Column("SUPERSEDED BY", lambda each: each.superseded_by),
        Column("ACTION HASH", lambda each: each.action_hash),
        Column("ETAG", lambda each: each.etag),
        Column("OUTCOME", lambda each: each.outcome_message),
        Column("RATIONALE", lambda each: each.rationale),
        Column("DECISIONS", lambda each: _lines(each.decisions)),
    ],
)

EXECUTION: Final = View[approval_pb2.Execution](
    "executions",
    columns=[
        Column("ID", lambda each: each.execution_id),
        Column("APPROVAL", lambda each: each.approval_id),
        Column("INCIDENT", lambda each: each.incident_id),
        Column("STARTED", lambda each: time(each, "start_time")),
        Column("OUTCOME", lambda each: "SUCCEEDED" if each.succeeded else "FAILED"),
        Column("EXECUTOR", lambda each: each.executor),
        Column("OUTPUT", lambda each: each.error or each.output),
    ],
)


def change(response: pb.WatchResponse) -> str:
    """Return a change on one line; of an approval that was there before, how it is."""
    approval, changed = response.approval, response.change
    if not response.HasField("change"):
        when, happened = clock(approval.update_time), f"EXISTING {state(approval)}"
    elif changed.state_before == changed.state_after:
        when, happened = clock(changed.change_time), state_name(changed.state_after)
    else:
        before = state_name(changed.state_before) or "NEW"
        when, happened = clock(changed.change_time), f"{before} → {state_name(changed.state_after)}"
    return "  ".join(
        [when, f"{happened:<21}", approval.approval_id, approval.incident_id, line(approval.action)]
    )
