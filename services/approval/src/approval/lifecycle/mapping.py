"""Between the messages of approvals and their model."""

from datetime import timedelta

from approval.lifecycle.use_cases import ApprovalPage
from approval.model import Approval, ApprovalFilter, Decision, DecisionKind, Operation, Order, Proposal
from approval.wire_enums import OPERATION_KINDS, RECOVERIES, RISKS, STATES
from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from servicekit.rpc.cursors import write_time_cursor
from servicekit.rpc.interceptors.validation import invalid_argument
from servicekit.rpc.mapping import WireEnum, optional_time, optional_timestamp
from servicekit.rpc.page_tokens import PageTokens
from servicekit.rpc.serialized import with_items
from servicekit.rpc.status_details import FieldViolation
from servicekit.rpc.timestamps import from_duration, to_timestamp

_DECISION_KINDS = WireEnum(DecisionKind, "KIND", approval_pb2.Decision.Kind.Value)
_ORDERS = WireEnum(Order, "ORDER", pb.ListRequest.Order.Value)


def approval_to_proto(approval: Approval) -> approval_pb2.Approval:
    """Return the message of an approval."""
    return approval_pb2.Approval(
        approval_id=approval.approval_id,
        incident_id=approval.incident_id,
        action=approval.action,
        operation=None if approval.operation is None else operation_to_proto(approval.operation),
        parse_error=approval.parse_error,
        action_hash=approval.action_hash,
        risk=RISKS.to_wire(approval.risk),
        rationale=approval.rationale,
        confidence=approval.confidence,
        required_approvals=approval.required_approvals,
        auto_execute=approval.auto_execute,
        state=STATES.to_wire(approval.state),
        proposed_by=approval.proposed_by,
        incident_verified=approval.incident_verified,
        incident_opening=approval.incident_opening,
        decisions=[_decision_to_proto(decision) for decision in approval.decisions],
        create_time=to_timestamp(approval.create_time),
        update_time=to_timestamp(approval.update_time),
        expire_time=to_timestamp(approval.expire_time),
        decide_time=optional_timestamp(approval.decide_time),
        execute_time=optional_timestamp(approval.execute_time),
        finish_time=optional_timestamp(approval.finish_time),
        outcome_message=approval.outcome_message,
        incident_resolve_time=optional_timestamp(approval.incident_resolve_time),
        incident_unknown_time=optional_timestamp(approval.incident_unknown_time),
        incident_unknown_accepted_by=approval.incident_unknown_accepted_by,
        cancelled_by=approval.cancelled_by,
        supersedes=approval.supersedes,
        superseded_by=approval.superseded_by,
        superseded_proposers=approval.superseded_proposers,
        recovery=(
            RECOVERIES.to_wire(approval.recovery) if approval.recovery else approval_pb2.RECOVERY_UNSPECIFIED
        ),
        recovery_time=optional_timestamp(approval.recovery_time),
        recovery_deadline=optional_timestamp(approval.recovery_deadline),
        recovery_message=approval.recovery_message,
        canary=approval.canary,
        etag=approval.etag,
    )


def operation_to_proto(operation: Operation) -> approval_pb2.Operation:
    """Return the message of an operation."""
    return approval_pb2.Operation(
        kind=OPERATION_KINDS.to_wire(operation.kind),
        resource_kind=operation.resource_kind,
        name=operation.name,
        namespace=operation.namespace,
        replicas=operation.replicas,
        hook=operation.hook,
    )


def _decision_to_proto(decision: Decision) -> approval_pb2.Decision:
    return approval_pb2.Decision(
        actor=decision.actor,
        kind=_DECISION_KINDS.to_wire(decision.kind),
        reason=decision.reason,
        decide_time=to_timestamp(decision.decide_time),
        policy_rule=decision.policy_rule,
    )


def proposal(request: pb.ProposeRequest, *, default_ttl: timedelta) -> Proposal:
    """Read a Propose."""
    return Proposal(
        incident_id=request.incident_id,
        action=request.action,
        risk=RISKS.from_wire(request.risk),
        rationale=request.rationale,
        confidence=request.confidence if request.HasField("confidence") else None,
        ttl=_ttl(request) if request.HasField("ttl") else default_ttl,
        required_approvals=request.required_approvals if request.HasField("required_approvals") else 1,
        auto_execute=request.auto_execute if request.HasField("auto_execute") else True,
        request_id=request.request_id,
        supersedes=request.supersedes,
    )


def _ttl(request: pb.ProposeRequest) -> timedelta:
    try:
        return from_duration(request.ttl)
    except ValueError as exc:
        raise invalid_argument(FieldViolation("ttl", str(exc))) from None


def approval_filter(request: pb.ListRequest) -> ApprovalFilter:
    """Read the criteria and the order of a List."""
    return ApprovalFilter(
        states=tuple(STATES.all_from_wire(request.states)),
        incident_id=request.incident_id,
        risks=tuple(RISKS.all_from_wire(request.risks)),
        operation_kinds=tuple(OPERATION_KINDS.all_from_wire(request.operation_kinds)),
        create_time_start=optional_time(request, "create_time_start"),
        create_time_end=optional_time(request, "create_time_end"),
        incident_unknown=request.incident_unknown,
        recoveries=tuple(RECOVERIES.all_from_wire(request.recoveries)),
        order=_ORDERS.get(request.order, Order.CREATE_TIME_DESC),
    )


async def list_response(request: pb.ListRequest, page: ApprovalPage, tokens: PageTokens) -> pb.ListResponse:
    """Return the response of a List."""
    return await with_items(
        pb.ListResponse(next_page_token=write_time_cursor(request, page.next_position, tokens)),
        "approvals",
        page.approvals,
        approval_to_proto,
    )
