"""Between the wire's messages and the model. Enums have the same names on both sides."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from approval.errors import DeliveryNotFoundError
from approval.model import (
    Approval,
    ApprovalFilter,
    Decision,
    DecisionKind,
    Delivery,
    DeliveryState,
    Execute,
    ExecutionFilter,
    LoggedExecution,
    Operation,
    OperationKind,
    Order,
    PlanCheck,
    Proposal,
    Risk,
    State,
)
from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from servicekit.rpc.interceptors.validation import invalid_argument
from servicekit.rpc.page_tokens import PageTokens
from servicekit.rpc.status import FieldViolation
from servicekit.rpc.timestamps import from_duration, from_timestamp, to_timestamp

_E = TypeVar("_E", bound=StrEnum)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DEFAULT_PAGE_SIZE = 50
_MAX_PAGE_SIZE = 1000
_MOST_ID_DIGITS = 18


def _numbers(members: type[_E], prefix: str, value: Callable[[str], int]) -> Mapping[_E, int]:
    return {member: value(f"{prefix}_{member}") for member in members}


_STATES = _numbers(State, "STATE", approval_pb2.Approval.State.Value)
_RISKS = _numbers(Risk, "RISK", approval_pb2.Risk.Value)
_KINDS = _numbers(OperationKind, "KIND", approval_pb2.Operation.Kind.Value)
_DECISIONS = _numbers(DecisionKind, "KIND", approval_pb2.Decision.Kind.Value)
_DELIVERY_STATES = _numbers(DeliveryState, "STATE", approval_pb2.Delivery.State.Value)
_ORDERS = _numbers(Order, "ORDER", pb.ListRequest.Order.Value)

_STATE_OF = {number: member for member, number in _STATES.items()}
_RISK_OF = {number: member for member, number in _RISKS.items()}
_KIND_OF = {number: member for member, number in _KINDS.items()}
_DELIVERY_STATE_OF = {number: member for member, number in _DELIVERY_STATES.items()}
_ORDER_OF = {number: member for member, number in _ORDERS.items()}


def approval_to_proto(approval: Approval) -> approval_pb2.Approval:
    """Return the message of an approval."""
    return approval_pb2.Approval(
        approval_id=approval.approval_id,
        incident_id=approval.incident_id,
        action=approval.action,
        operation=None if approval.operation is None else _operation_to_proto(approval.operation),
        parse_error=approval.parse_error,
        action_hash=approval.action_hash,
        risk=_RISKS[approval.risk],  # type: ignore[arg-type]  # a number of the enum
        rationale=approval.rationale,
        confidence=approval.confidence,
        required_approvals=approval.required_approvals,
        auto_execute=approval.auto_execute,
        state=_STATES[approval.state],  # type: ignore[arg-type]  # a number of the enum
        proposed_by=approval.proposed_by,
        incident_verified=approval.incident_verified,
        decisions=[_decision_to_proto(decision) for decision in approval.decisions],
        create_time=to_timestamp(approval.create_time),
        update_time=to_timestamp(approval.update_time),
        expire_time=to_timestamp(approval.expire_time),
        decide_time=_optional(approval.decide_time),
        execute_time=_optional(approval.execute_time),
        finish_time=_optional(approval.finish_time),
        outcome_message=approval.outcome_message,
        incident_resolve_time=_optional(approval.incident_resolve_time),
        etag=approval.etag,
    )


def _operation_to_proto(operation: Operation) -> approval_pb2.Operation:
    return approval_pb2.Operation(
        kind=_KINDS[operation.kind],  # type: ignore[arg-type]  # a number of the enum
        resource_kind=operation.resource_kind,
        name=operation.name,
        namespace=operation.namespace,
        replicas=operation.replicas,
        hook=operation.hook,
    )


def _decision_to_proto(decision: Decision) -> approval_pb2.Decision:
    return approval_pb2.Decision(
        actor=decision.actor,
        kind=_DECISIONS[decision.kind],  # type: ignore[arg-type]  # a number of the enum
        reason=decision.reason,
        decide_time=to_timestamp(decision.decide_time),
        policy_rule=decision.policy_rule,
    )


def plan_response(approval: Approval, checks: Sequence[PlanCheck]) -> pb.ExecuteResponse:
    """Return the response of an Execute that only validates."""
    return pb.ExecuteResponse(
        approval=approval_to_proto(approval),
        plan=approval_pb2.ExecutionPlan(
            operation=None if approval.operation is None else _operation_to_proto(approval.operation),
            checks=[
                approval_pb2.ExecutionPlan.Check(name=check.name, passed=check.passed, message=check.message)
                for check in checks
            ],
        ),
    )


def delivery_to_proto(delivery: Delivery) -> approval_pb2.Delivery:
    """Return the message of a delivery."""
    return approval_pb2.Delivery(
        delivery_id=str(delivery.delivery_id),
        approval_id=delivery.approval_id,
        incident_id=delivery.incident_id,
        state=_DELIVERY_STATES[delivery.state],  # type: ignore[arg-type]  # a number of the enum
        attempts=delivery.attempts,
        last_error=delivery.last_error,
        create_time=to_timestamp(delivery.create_time),
        next_attempt_time=(
            to_timestamp(delivery.next_attempt_time) if delivery.state is DeliveryState.PENDING else None
        ),
        done_time=_optional(delivery.done_time),
    )


def proposal(request: pb.ProposeRequest, *, default_ttl: timedelta) -> Proposal:
    """Read a Propose."""
    return Proposal(
        incident_id=request.incident_id,
        action=request.action,
        risk=_RISK_OF[request.risk],
        rationale=request.rationale,
        confidence=request.confidence if request.HasField("confidence") else None,
        ttl=_ttl(request) if request.HasField("ttl") else default_ttl,
        required_approvals=request.required_approvals if request.HasField("required_approvals") else 1,
        auto_execute=request.auto_execute if request.HasField("auto_execute") else True,
        request_id=request.request_id,
    )


def _ttl(request: pb.ProposeRequest) -> timedelta:
    try:
        return from_duration(request.ttl)
    except ValueError as exc:
        raise invalid_argument(FieldViolation("ttl", str(exc))) from None


def execute_command(request: pb.ExecuteRequest) -> Execute:
    """Read an Execute that runs."""
    return Execute(request.approval_id, request.etag, resume_indeterminate=request.resume_indeterminate)


def approval_filter(request: pb.ListRequest) -> ApprovalFilter:
    """Read a List's filters and order."""
    return ApprovalFilter(
        states=tuple(_STATE_OF[state] for state in request.states),
        incident_id=request.incident_id,
        risks=tuple(_RISK_OF[risk] for risk in request.risks),
        operation_kinds=tuple(_KIND_OF[kind] for kind in request.operation_kinds),
        create_time_start=_optional_time(request, "create_time_start"),
        create_time_end=_optional_time(request, "create_time_end"),
        order=_ORDER_OF.get(request.order, Order.CREATE_TIME_DESC),
    )


def execution_filter(request: pb.ListExecutionsRequest) -> ExecutionFilter:
    """Read a ListExecutions' filters."""
    return ExecutionFilter(
        approval_id=request.approval_id,
        incident_id=request.incident_id,
        succeeded=request.succeeded if request.HasField("succeeded") else None,
        start_time_start=_optional_time(request, "start_time_start"),
        start_time_end=_optional_time(request, "start_time_end"),
    )


def execution_to_proto(execution: LoggedExecution) -> approval_pb2.Execution:
    """Return the message of a row of the log of repairs."""
    return approval_pb2.Execution(
        execution_id=str(execution.execution_id),
        approval_id=execution.approval_id,
        incident_id=execution.incident_id,
        operation=_operation_to_proto(execution.operation),
        succeeded=execution.succeeded,
        output=execution.output,
        error=execution.error,
        start_time=to_timestamp(execution.start_time),
        finish_time=to_timestamp(execution.finish_time),
        executor=execution.executor,
    )


def delivery_states(request: pb.ListDeliveriesRequest) -> Sequence[DeliveryState]:
    """Read the states that a ListDeliveries asks for."""
    return [_DELIVERY_STATE_OF[state] for state in request.states]


def delivery_id(request: pb.RetryDeliveryRequest) -> int:
    """Read a delivery's id. Raises DeliveryNotFoundError for a text that this service never gave out."""
    text = request.delivery_id
    if not text.isdigit() or len(text) > _MOST_ID_DIGITS:
        raise DeliveryNotFoundError
    return int(text)


def page_size(asked: int) -> int:
    """Return how many items a page has: 50 when 0 was asked for, at most 1000."""
    return min(asked or _DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE)


def list_position(request: pb.ListRequest, tokens: PageTokens) -> tuple[datetime, str] | None:
    """Read where a List goes on; None for the first page. Raises InvalidPageTokenError."""
    if not request.page_token:
        return None
    micros, approval_id = tokens.read(_filter_bytes(request), request.page_token)
    return _EPOCH + timedelta(microseconds=int(micros)), str(approval_id)


def list_token(request: pb.ListRequest, position: tuple[datetime, str] | None, tokens: PageTokens) -> str:
    """Return the token of the page behind `position`; empty behind the last."""
    if position is None:
        return ""
    time, approval_id = position
    return tokens.make(_filter_bytes(request), [(time - _EPOCH) // timedelta(microseconds=1), approval_id])


def id_position(
    request: pb.ListDeliveriesRequest | pb.ListExecutionsRequest, tokens: PageTokens
) -> int | None:
    """Read the id that a list by descending ids goes on before; None for the first page.

    Raises InvalidPageTokenError.
    """
    if not request.page_token:
        return None
    (before,) = tokens.read(_filter_bytes(request), request.page_token)
    return int(before)


def id_token(
    request: pb.ListDeliveriesRequest | pb.ListExecutionsRequest, before: int | None, tokens: PageTokens
) -> str:
    """Return the token of the page of what is older than the id `before`; empty behind the last."""
    return "" if before is None else tokens.make(_filter_bytes(request), [before])


def _filter_bytes(request: pb.ListRequest | pb.ListDeliveriesRequest | pb.ListExecutionsRequest) -> bytes:
    """What a page token is bound to: the request without its page fields."""
    bound = type(request).FromString(request.SerializeToString())
    bound.ClearField("page_size")
    bound.ClearField("page_token")
    return type(request).__name__.encode() + b"\0" + bound.SerializeToString(deterministic=True)


def _optional(time: datetime | None) -> Timestamp | None:
    return None if time is None else to_timestamp(time)


def _optional_time(request: pb.ListRequest | pb.ListExecutionsRequest, field: str) -> datetime | None:
    if not request.HasField(field):  # type: ignore[arg-type]  # one of the names above
        return None
    try:
        return from_timestamp(getattr(request, field))
    except ValueError as exc:
        raise invalid_argument(FieldViolation(field, str(exc))) from None
