"""The one table from this service's errors to gRPC statuses."""

import grpc

from incident.errors import (
    IncidentChangedError,
    IncidentIdTakenError,
    IncidentNotFoundError,
    RequestIdReusedError,
    TransitionNotAllowedError,
)
from servicekit.error_table import ErrorTable
from servicekit.status import Refusal

_RESOURCE = "awoooi.incident.v1.Incident"


def _not_found(error: IncidentNotFoundError) -> Refusal:
    return Refusal(
        grpc.StatusCode.NOT_FOUND, str(error), "INCIDENT_NOT_FOUND", resource=(_RESOURCE, error.incident_id)
    )


def _not_allowed(error: TransitionNotAllowedError) -> Refusal:
    allowed = ", ".join(error.allowed)
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        str(error),
        "INCIDENT_STATE_NOT_ALLOWED",
        metadata={"current_state": error.current, "allowed_states": allowed},
        precondition=("STATE", error.incident_id, f"is {error.current}, must be one of: {allowed}"),
    )


def _changed(error: IncidentChangedError) -> Refusal:
    return Refusal(
        grpc.StatusCode.ABORTED, str(error), "INCIDENT_CHANGED", resource=(_RESOURCE, error.incident_id)
    )


def _request_id_reused(error: RequestIdReusedError) -> Refusal:
    return Refusal(grpc.StatusCode.ALREADY_EXISTS, str(error), "REQUEST_ID_REUSED")


def _id_taken(error: IncidentIdTakenError) -> Refusal:
    return Refusal(
        grpc.StatusCode.ALREADY_EXISTS,
        str(error),
        "INCIDENT_ID_TAKEN",
        resource=(_RESOURCE, error.incident_id),
    )


ERRORS = ErrorTable(
    {
        IncidentNotFoundError: _not_found,
        TransitionNotAllowedError: _not_allowed,
        IncidentChangedError: _changed,
        RequestIdReusedError: _request_id_reused,
        IncidentIdTakenError: _id_taken,
    }
)
