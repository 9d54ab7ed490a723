"""The one table from this service's errors to gRPC statuses, and the codes that it reads from others."""

from collections.abc import Callable
from datetime import timedelta

import grpc

from approval.errors import (
    ActionChangedError,
    ApprovalChangedError,
    ApprovalNotFoundError,
    DecidedOtherwiseError,
    DeliveryDoneError,
    DeliveryNotFoundError,
    ExecutorMissingError,
    IncidentNotFoundError,
    IncidentResolvedError,
    IncidentUnreachableError,
    OwnProposalError,
    RequestIdReusedError,
    TransitionNotAllowedError,
)
from servicekit.rpc.error_table import ErrorTable
from servicekit.rpc.status import RpcStatus

# What the incident service says of an incident that it does not know.
NOT_FOUND = grpc.StatusCode.NOT_FOUND

_APPROVAL = "awoooi.approval.v1.Approval"
_INCIDENT = "awoooi.incident.v1.Incident"

_OfApproval = ApprovalNotFoundError | ApprovalChangedError | ActionChangedError | ExecutorMissingError


def _of_approval(code: grpc.StatusCode, reason: str) -> Callable[[_OfApproval], RpcStatus]:
    return lambda error: RpcStatus(code, str(error), reason, resource=(_APPROVAL, error.approval_id))


def _of_incident(
    code: grpc.StatusCode, reason: str, *, retry_after: timedelta | None = None
) -> Callable[[IncidentNotFoundError | IncidentResolvedError | IncidentUnreachableError], RpcStatus]:
    return lambda error: RpcStatus(
        code, str(error), reason, resource=(_INCIDENT, error.incident_id), retry_after=retry_after
    )


def _plain(code: grpc.StatusCode, reason: str) -> Callable[[Exception], RpcStatus]:
    return lambda error: RpcStatus(code, str(error), reason)


def _not_allowed(reason: str) -> Callable[[TransitionNotAllowedError], RpcStatus]:
    def refusal(error: TransitionNotAllowedError) -> RpcStatus:
        allowed = ", ".join(error.allowed)
        return RpcStatus(
            grpc.StatusCode.FAILED_PRECONDITION,
            str(error),
            reason,
            metadata={"current_state": error.current, "allowed_states": allowed},
            precondition=("STATE", error.approval_id, f"is {error.current}, must be one of: {allowed}"),
        )

    return refusal


ERRORS = ErrorTable(
    {
        ApprovalNotFoundError: _of_approval(grpc.StatusCode.NOT_FOUND, "APPROVAL_NOT_FOUND"),
        IncidentNotFoundError: _of_incident(grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND"),
        IncidentResolvedError: _of_incident(grpc.StatusCode.FAILED_PRECONDITION, "INCIDENT_RESOLVED"),
        IncidentUnreachableError: _of_incident(
            grpc.StatusCode.UNAVAILABLE, "INCIDENT_SERVICE_UNREACHABLE", retry_after=timedelta(seconds=1)
        ),
        TransitionNotAllowedError: _not_allowed("APPROVAL_STATE_NOT_ALLOWED"),
        DecidedOtherwiseError: _not_allowed("DECIDED_OTHERWISE"),
        OwnProposalError: _plain(grpc.StatusCode.PERMISSION_DENIED, "OWN_PROPOSAL"),
        ApprovalChangedError: _of_approval(grpc.StatusCode.ABORTED, "APPROVAL_CHANGED"),
        RequestIdReusedError: _plain(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
        ActionChangedError: _of_approval(grpc.StatusCode.FAILED_PRECONDITION, "ACTION_CHANGED"),
        ExecutorMissingError: _of_approval(grpc.StatusCode.FAILED_PRECONDITION, "EXECUTOR_MISSING"),
        DeliveryNotFoundError: _plain(grpc.StatusCode.NOT_FOUND, "DELIVERY_NOT_FOUND"),
        DeliveryDoneError: _plain(grpc.StatusCode.FAILED_PRECONDITION, "DELIVERY_DONE"),
    }
)
