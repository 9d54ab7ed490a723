"""The one table from this service's errors to gRPC statuses."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import grpc

from approval.delivery.errors import (
    DeliveryDoneError,
    DeliveryNotFoundError,
    DeliveryNotParkedError,
)
from approval.errors import (
    AlreadySupersededError,
    ApprovalChangedError,
    ApprovalNotFoundError,
    ConflictingDecisionError,
    IncidentNotFoundError,
    IncidentResolvedError,
    NotCanaryError,
    NotProposerError,
    RequestIdReusedError,
    SelfApprovalError,
    SupersedesOtherIncidentError,
    TransitionNotAllowedError,
)
from approval.execution.errors import ActionChangedError, ExecutorMissingError, IncidentUnreachableError
from servicekit.rpc.status_codes import ErrorTable
from servicekit.rpc.status_details import RpcStatus, state_not_allowed
from servicekit.watch.status_codes import WATCH_ERRORS

_APPROVAL = "awoooi.approval.v1.Approval"
_INCIDENT = "awoooi.incident.v1.Incident"

_OfApproval = (
    ApprovalNotFoundError
    | ApprovalChangedError
    | ActionChangedError
    | ExecutorMissingError
    | SupersedesOtherIncidentError
    | NotCanaryError
)


def _of_approval(code: grpc.StatusCode, reason: str) -> Callable[[_OfApproval], RpcStatus]:
    return lambda error: RpcStatus(code, str(error), reason, resource=(_APPROVAL, error.approval_id))


def _of_incident(
    code: grpc.StatusCode, reason: str, *, retry_after: timedelta | None = None
) -> Callable[[IncidentNotFoundError | IncidentUnreachableError], RpcStatus]:
    return lambda error: RpcStatus(
        code, str(error), reason, resource=(_INCIDENT, error.incident_id), retry_after=retry_after
    )


def _plain(code: grpc.StatusCode, reason: str) -> Callable[[Exception], RpcStatus]:
    return lambda error: RpcStatus(code, str(error), reason)


_StateNotAllowed = TransitionNotAllowedError | DeliveryDoneError | DeliveryNotParkedError


def _not_allowed(reason: str) -> Callable[[_StateNotAllowed], RpcStatus]:
    def status(error: _StateNotAllowed) -> RpcStatus:
        subject = (
            error.approval_id if isinstance(error, TransitionNotAllowedError) else str(error.delivery_id)
        )
        return state_not_allowed(
            str(error), reason, subject=subject, current=error.current, allowed=error.allowed
        )

    return status


def _incident_resolved(error: IncidentResolvedError) -> RpcStatus:
    return state_not_allowed(
        str(error),
        "INCIDENT_RESOLVED",
        subject=error.incident_id,
        current="RESOLVED",
        allowed=("OPEN", "INVESTIGATING"),
        resource=(_INCIDENT, error.incident_id),
    )


def _superseded(error: AlreadySupersededError) -> RpcStatus:
    status = _not_allowed("ALREADY_SUPERSEDED")(error)
    return replace(status, metadata={**status.metadata, "superseded_by": error.superseded_by})


ERRORS = ErrorTable(
    {
        ApprovalNotFoundError: _of_approval(grpc.StatusCode.NOT_FOUND, "APPROVAL_NOT_FOUND"),
        IncidentNotFoundError: _of_incident(grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND"),
        IncidentResolvedError: _incident_resolved,
        IncidentUnreachableError: _of_incident(
            grpc.StatusCode.UNAVAILABLE, "INCIDENT_SERVICE_UNREACHABLE", retry_after=timedelta(seconds=1)
        ),
        TransitionNotAllowedError: _not_allowed("APPROVAL_STATE_NOT_ALLOWED"),
        AlreadySupersededError: _superseded,
        SupersedesOtherIncidentError: _of_approval(
            grpc.StatusCode.FAILED_PRECONDITION, "SUPERSEDES_OTHER_INCIDENT"
        ),
        NotCanaryError: _of_approval(grpc.StatusCode.FAILED_PRECONDITION, "NOT_A_CANARY"),
        ConflictingDecisionError: _not_allowed("DECIDED_OTHERWISE"),
        SelfApprovalError: _plain(grpc.StatusCode.PERMISSION_DENIED, "OWN_PROPOSAL"),
        NotProposerError: _plain(grpc.StatusCode.PERMISSION_DENIED, "NOT_PROPOSER"),
        ApprovalChangedError: _of_approval(grpc.StatusCode.ABORTED, "APPROVAL_CHANGED"),
        RequestIdReusedError: _plain(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
        ActionChangedError: _of_approval(grpc.StatusCode.FAILED_PRECONDITION, "ACTION_CHANGED"),
        ExecutorMissingError: _of_approval(grpc.StatusCode.FAILED_PRECONDITION, "EXECUTOR_MISSING"),
        DeliveryNotFoundError: _plain(grpc.StatusCode.NOT_FOUND, "DELIVERY_NOT_FOUND"),
        DeliveryDoneError: _not_allowed("DELIVERY_DONE"),
        DeliveryNotParkedError: _not_allowed("DELIVERY_NOT_PARKED"),
        **WATCH_ERRORS,
    }
)
