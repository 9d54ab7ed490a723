"""Incidents and approvals as the lines that `flywheel import` reads; docs/import.md has the format."""

from typing import Any, Final

from google.protobuf.message import Message

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from flywheel.operator.output.cells import enum_name
from flywheel.operator.views.approval import risk, state_name
from flywheel.operator.views.incident import resolution, severity, state

_Approval = approval_pb2.Approval
_FINISHED: Final = (_Approval.STATE_SUCCEEDED, _Approval.STATE_FAILED, _Approval.STATE_INDETERMINATE)
_WITHOUT_OUTCOME: Final = (_Approval.STATE_PENDING, _Approval.STATE_APPROVED, _Approval.STATE_EXPIRED)


def incident_line(incident: incident_pb2.Incident) -> dict[str, Any]:
    """Return the line of an incident."""
    line = {
        "kind": "incident",
        "incident_id": incident.incident_id,
        "title": incident.title,
        "description": incident.description,
        "severity": severity(incident),
        "state": state(incident),
        "fingerprint": incident.fingerprint,
        "labels": dict(incident.labels),
        "source": incident.source,
        "occurrence_count": incident.occurrence_count,
        "opened_by": incident.opened_by,
        "resolution_type": resolution(incident.resolution_type),
        "resolution_note": incident.resolution_note,
        "resolved_by": incident.resolved_by,
        **_times(incident, "create_time", "last_seen_time", "investigate_time", "resolve_time"),
    }
    return _filled(line)


def approval_line(approval: _Approval, executor: str) -> dict[str, Any]:
    """Return the line of an approval; `executor` is what ran its operation, if anything did."""
    number = _imported_state(approval)
    is_finished = number in _FINISHED
    line = {
        "kind": "approval",
        "approval_id": approval.approval_id,
        "incident_id": approval.incident_id,
        "action": approval.action,
        "risk": risk(approval),
        "state": state_name(number),
        "rationale": approval.rationale,
        "confidence": approval.confidence if approval.HasField("confidence") else None,
        "required_approvals": approval.required_approvals,
        # An import executes nothing that is APPROVED.
        "auto_execute": approval.auto_execute and number == _Approval.STATE_PENDING,
        "proposed_by": approval.proposed_by,
        "decisions": [_decision(each) for each in approval.decisions],
        "outcome_message": "" if number in _WITHOUT_OUTCOME else approval.outcome_message,
        "cancelled_by": _cancelled_by(approval),
        "executor": executor if is_finished else "",
        **_times(approval, "create_time", "expire_time", "decide_time"),
        **(_times(approval, "execute_time", "finish_time") if is_finished else {}),
        **_times(approval, "incident_resolve_time"),
    }
    if is_finished and "finish_time" not in line:
        # It runs just now.
        line["finish_time"] = line["execute_time"]
    return _filled(line)


def _imported_state(approval: _Approval) -> int:
    """Return the state that an import knows: whether what runs just now takes effect cannot be known."""
    if approval.state != _Approval.STATE_EXECUTING:
        return approval.state
    if approval.operation.kind == approval_pb2.Operation.KIND_NO_ACTION:
        return _Approval.STATE_APPROVED
    return _Approval.STATE_INDETERMINATE


def _cancelled_by(approval: _Approval) -> str:
    if approval.state != _Approval.STATE_CANCELLED:
        return ""
    # The service itself, when the incident was RESOLVED before the operation ran.
    return approval.cancelled_by or "service:approval"


def _decision(decision: approval_pb2.Decision) -> dict[str, Any]:
    return _filled(
        {
            "actor": decision.actor,
            "kind": enum_name(approval_pb2.Decision.Kind, "KIND_", decision.kind),
            "reason": decision.reason,
            "policy_rule": decision.policy_rule,
            **_times(decision, "decide_time"),
        }
    )


def _times(message: Message, *fields: str) -> dict[str, str]:
    return {field: getattr(message, field).ToJsonString() for field in fields if message.HasField(field)}


def _filled(line: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in line.items() if value not in ("", None, [], {}, False)}
