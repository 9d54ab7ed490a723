"""The one table from this service's errors to gRPC statuses."""

from collections.abc import Callable

import grpc

from incident.errors import (
    EventIdTakenError,
    FingerprintTakenError,
    IncidentChangedError,
    IncidentError,
    IncidentIdTakenError,
    IncidentNotFoundError,
    NeverResolvedError,
    PostmortemNotWrittenError,
    RequestIdReusedError,
    SideEffectEndedError,
    SideEffectNotFoundError,
    TransitionNotAllowedError,
)
from servicekit.error_table import ErrorTable
from servicekit.status import Refusal

_RESOURCE = "awoooi.incident.v1.Incident"


_OfIncident = (
    IncidentNotFoundError
    | IncidentChangedError
    | IncidentIdTakenError
    | FingerprintTakenError
    | SideEffectNotFoundError
    | SideEffectEndedError
    | NeverResolvedError
    | PostmortemNotWrittenError
)


def _of_incident(code: grpc.StatusCode, reason: str) -> Callable[[_OfIncident], Refusal]:
    return lambda error: Refusal(code, str(error), reason, resource=(_RESOURCE, error.incident_id))


def _plain(code: grpc.StatusCode, reason: str) -> Callable[[IncidentError], Refusal]:
    return lambda error: Refusal(code, str(error), reason)


def _not_allowed(error: TransitionNotAllowedError) -> Refusal:
    allowed = ", ".join(error.allowed)
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        str(error),
        "INCIDENT_STATE_NOT_ALLOWED",
        metadata={"current_state": error.current, "allowed_states": allowed},
        precondition=("STATE", error.incident_id, f"is {error.current}, must be one of: {allowed}"),
    )


ERRORS = ErrorTable(
    {
        IncidentNotFoundError: _of_incident(grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND"),
        TransitionNotAllowedError: _not_allowed,
        IncidentChangedError: _of_incident(grpc.StatusCode.ABORTED, "INCIDENT_CHANGED"),
        RequestIdReusedError: _plain(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
        IncidentIdTakenError: _of_incident(grpc.StatusCode.ALREADY_EXISTS, "INCIDENT_ID_TAKEN"),
        FingerprintTakenError: _of_incident(grpc.StatusCode.FAILED_PRECONDITION, "FINGERPRINT_TAKEN"),
        EventIdTakenError: _plain(grpc.StatusCode.ALREADY_EXISTS, "EVENT_ID_TAKEN"),
        SideEffectNotFoundError: _of_incident(grpc.StatusCode.NOT_FOUND, "SIDE_EFFECT_NOT_FOUND"),
        SideEffectEndedError: _of_incident(grpc.StatusCode.FAILED_PRECONDITION, "SIDE_EFFECT_ENDED"),
        NeverResolvedError: _of_incident(grpc.StatusCode.NOT_FOUND, "NEVER_RESOLVED"),
        PostmortemNotWrittenError: _of_incident(grpc.StatusCode.NOT_FOUND, "POSTMORTEM_NOT_WRITTEN"),
    }
)
