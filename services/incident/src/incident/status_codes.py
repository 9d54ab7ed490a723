"""The one table from this service's errors to RPC statuses."""

from collections.abc import Callable

import grpc

from incident.effects.errors import (
    DeliveryIdNotFoundError,
    NeverResolvedError,
    PostmortemNotWrittenError,
    SideEffectEndedError,
    SideEffectNotFoundError,
    SideEffectNotParkedError,
    SideEffectStateError,
)
from incident.errors import (
    EventIdTakenError,
    EventTimeAheadError,
    FingerprintTakenError,
    IncidentChangedError,
    IncidentError,
    IncidentIdTakenError,
    IncidentNotFoundError,
    NotCanaryError,
    RequestIdReusedError,
    ResolutionsExhaustedError,
    TransitionNotAllowedError,
)
from servicekit.rpc.status_codes import ErrorTable
from servicekit.rpc.status_details import FieldViolation, RpcStatus, state_not_allowed
from servicekit.watch.status_codes import WATCH_ERRORS

_RESOURCE = "awoooi.incident.v1.Incident"


_OfIncident = (
    IncidentNotFoundError
    | IncidentChangedError
    | IncidentIdTakenError
    | FingerprintTakenError
    | NotCanaryError
    | ResolutionsExhaustedError
    | SideEffectNotFoundError
    | NeverResolvedError
    | PostmortemNotWrittenError
)


def _of_incident(code: grpc.StatusCode, reason: str) -> Callable[[_OfIncident], RpcStatus]:
    return lambda error: RpcStatus(code, str(error), reason, resource=(_RESOURCE, error.incident_id))


def _plain(code: grpc.StatusCode, reason: str) -> Callable[[IncidentError], RpcStatus]:
    return lambda error: RpcStatus(code, str(error), reason)


def _state_not_allowed(error: TransitionNotAllowedError) -> RpcStatus:
    return state_not_allowed(
        str(error),
        "INCIDENT_STATE_NOT_ALLOWED",
        subject=error.incident_id,
        current=error.current,
        allowed=error.allowed,
    )


def _effect_state_not_allowed(reason: str) -> Callable[[SideEffectStateError], RpcStatus]:
    return lambda error: state_not_allowed(
        str(error), reason, subject=error.subject, current=error.current, allowed=error.allowed
    )


def _delivery_id_not_found(error: DeliveryIdNotFoundError) -> RpcStatus:
    return RpcStatus(
        grpc.StatusCode.NOT_FOUND,
        str(error),
        "SIDE_EFFECT_NOT_FOUND",
        resource=("awoooi.incident.v1.SideEffect", error.delivery_id),
    )


def _event_time_ahead(error: EventTimeAheadError) -> RpcStatus:
    return RpcStatus(
        grpc.StatusCode.INVALID_ARGUMENT,
        str(error),
        "EVENT_TIME_AHEAD",
        field_violations=[FieldViolation("event_time", "must not be more than 5 minutes in the future")],
    )


ERRORS = ErrorTable(
    {
        IncidentNotFoundError: _of_incident(grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND"),
        TransitionNotAllowedError: _state_not_allowed,
        IncidentChangedError: _of_incident(grpc.StatusCode.ABORTED, "INCIDENT_CHANGED"),
        ResolutionsExhaustedError: _of_incident(grpc.StatusCode.FAILED_PRECONDITION, "RESOLUTIONS_EXHAUSTED"),
        RequestIdReusedError: _plain(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
        IncidentIdTakenError: _of_incident(grpc.StatusCode.ALREADY_EXISTS, "INCIDENT_ID_TAKEN"),
        FingerprintTakenError: _of_incident(grpc.StatusCode.FAILED_PRECONDITION, "FINGERPRINT_TAKEN"),
        NotCanaryError: _of_incident(grpc.StatusCode.FAILED_PRECONDITION, "NOT_A_CANARY"),
        EventIdTakenError: _plain(grpc.StatusCode.ALREADY_EXISTS, "EVENT_ID_TAKEN"),
        EventTimeAheadError: _event_time_ahead,
        SideEffectNotFoundError: _of_incident(grpc.StatusCode.NOT_FOUND, "SIDE_EFFECT_NOT_FOUND"),
        DeliveryIdNotFoundError: _delivery_id_not_found,
        SideEffectEndedError: _effect_state_not_allowed("SIDE_EFFECT_ENDED"),
        SideEffectNotParkedError: _effect_state_not_allowed("SIDE_EFFECT_NOT_PARKED"),
        NeverResolvedError: _of_incident(grpc.StatusCode.NOT_FOUND, "NEVER_RESOLVED"),
        PostmortemNotWrittenError: _of_incident(grpc.StatusCode.NOT_FOUND, "POSTMORTEM_NOT_WRITTEN"),
        **WATCH_ERRORS,
    }
)
