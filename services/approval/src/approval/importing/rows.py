"""The rows of an imported approval: its columns, its decisions and its entry in the execution log."""

from collections.abc import Mapping
from typing import Any

from approval.actions.parsed import ParsedAction, parse
from approval.execution.log_repository import operation_to_json
from approval.importing.lines import FINISHED, ApprovalLine
from approval.model import (
    DecisionKind,
    ExecutionOutcome,
    Operation,
    OperationKind,
    Proposal,
    State,
)

# The executor of an operation when the line names none.
_EXECUTOR = "imported"


def approval_row(line: ApprovalLine) -> Mapping[str, Any]:
    """Return the row of a line without contradictions, as JSON, without its id."""
    parsed = parse(line.action)
    operation = parsed.operation
    proposal = Proposal(
        incident_id=line.incident_id,
        action=line.action,
        risk=line.risk,
        rationale=line.rationale or "",
        confidence=line.confidence,
        ttl=line.expires - line.create_time,
        required_approvals=line.quorum,
        auto_execute=bool(line.auto_execute),
    )
    times = {
        "create_time": line.create_time,
        "expire_time": line.expires,
        "decide_time": line.decide_time,
        "execute_time": line.execute_time or line.finish_time,
        "finish_time": line.finish_time,
        "incident_resolve_time": line.incident_resolve_time,
        # When anything of it last changed.
        "update_time": max(
            time
            for time in (
                line.create_time,
                line.decide_time,
                line.finish_time,
                line.incident_resolve_time,
                *(line.time_of(decision) for decision in line.decisions_in_order()),
            )
            if time is not None
        ),
    }
    return {
        "incident_id": proposal.incident_id,
        "action": proposal.action,
        **_operation_columns(operation),
        "parse_error": parsed.error,
        "action_hash": parsed.hash,
        "risk": proposal.risk,
        "rationale": proposal.rationale,
        "confidence": proposal.confidence,
        "required_approvals": proposal.required_approvals,
        "auto_execute": proposal.auto_execute,
        "state": line.state,
        "proposed_by": line.proposed_by,
        **{name: time and time.isoformat() for name, time in times.items()},
        "outcome_message": _message(line, parsed),
        "cancelled_by": line.cancelled_by or "",
        "content_hash": proposal.content_hash(),
        "counted_as": _outcome(line, operation),
        "decisions": [
            {
                "actor": decision.actor,
                "kind": decision.kind,
                "reason": decision.reason or "",
                "decide_time": line.time_of(decision).isoformat(),
                "policy_rule": decision.policy_rule or "",
            }
            for decision in line.decisions_in_order()
        ],
        "execution": _execution(line, operation),
    }


def _operation_columns(operation: Operation | None) -> Mapping[str, Any]:
    if operation is None:
        empty = dict.fromkeys(("resource_kind", "name", "namespace", "hook"), "")
        return {"operation_kind": None, "replicas": None, "target": None, **empty}
    columns = operation_to_json(operation)
    kind = columns.pop("kind")
    return {
        "operation_kind": kind,
        "target": None if kind is OperationKind.NO_ACTION else operation.target,
        **columns,
    }


def _message(line: ApprovalLine, parsed: ParsedAction) -> str:
    """The outcome message: the line's, or the one that this service would have written."""
    operation = parsed.operation
    if line.outcome_message:
        return line.outcome_message
    if line.state is State.FAILED and operation is None:
        return f"cannot parse action: {parsed.error}"
    if line.state is State.SUCCEEDED and operation is not None and operation.kind is OperationKind.NO_ACTION:
        return "observed only"
    rejections = [each.reason for each in line.decisions_in_order() if each.kind is DecisionKind.REJECT]
    return rejections[-1] or "" if rejections else ""


def _outcome(line: ApprovalLine, operation: Operation | None) -> ExecutionOutcome | None:
    """How the execution is counted; None when there was none."""
    if line.state not in FINISHED:
        return None
    if operation is not None and operation.kind is OperationKind.NO_ACTION:
        return ExecutionOutcome.NOOP
    return ExecutionOutcome(line.state)


def _execution(line: ApprovalLine, operation: Operation | None) -> Mapping[str, Any] | None:
    """The entry in the execution log; None when no operation was run to its end."""
    ran = line.state in (State.SUCCEEDED, State.FAILED) and line.finish_time is not None
    if not ran or operation is None or operation.kind is OperationKind.NO_ACTION or line.finish_time is None:
        return None
    succeeded = line.state is State.SUCCEEDED
    message = line.outcome_message or ""
    return {
        "operation": operation_to_json(operation),
        "succeeded": succeeded,
        "output": message if succeeded else "",
        "error": "" if succeeded else message,
        "executor": line.executor or _EXECUTOR,
        "start_time": (line.execute_time or line.finish_time).isoformat(),
        "finish_time": line.finish_time.isoformat(),
    }
