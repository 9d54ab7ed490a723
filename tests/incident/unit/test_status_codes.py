"""The RPC status of each error of the incident service."""

import grpc
import pytest

from incident import errors
from incident.errors import (
    IncidentChangedError,
    IncidentError,
    IncidentIdTakenError,
    IncidentNotFoundError,
    RequestIdReusedError,
    TransitionNotAllowedError,
)
from incident.model import State
from incident.status_codes import ERRORS
from tests.rpc_errors import read_status

ID = "INC-20260507-99ADF2"
RESOURCE = ("awoooi.incident.v1.Incident", ID)


def classes() -> list[type[Exception]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, IncidentError) and value is not IncidentError
    ]


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_every_error_is_in_the_table_and_its_docstring_is_one_sentence(cls: type[Exception]) -> None:
    assert any(base in ERRORS.entries for base in cls.__mro__)
    assert cls.__doc__ is not None
    assert "\n" not in cls.__doc__
    assert cls.__doc__.endswith(".")


@pytest.mark.parametrize(
    ("error", "code", "reason", "resource"),
    [
        (IncidentNotFoundError(ID), grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND", RESOURCE),
        (IncidentChangedError(ID), grpc.StatusCode.ABORTED, "INCIDENT_CHANGED", RESOURCE),
        (RequestIdReusedError(), grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED", None),
        (IncidentIdTakenError(ID), grpc.StatusCode.ALREADY_EXISTS, "INCIDENT_ID_TAKEN", RESOURCE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_status_of_each_error(
    error: IncidentError, code: grpc.StatusCode, reason: str, resource: tuple[str, str] | None
) -> None:
    status = read_status(ERRORS.status_of(error, method="m").to_status())
    assert (status.code, status.reason, status.resource) == (code, reason, resource)
    assert status.message == type(error).__doc__


def test_a_refused_transition_has_the_current_and_the_allowed_states() -> None:
    error = TransitionNotAllowedError(ID, current=State.RESOLVED, allowed=(State.OPEN, State.INVESTIGATING))
    status = read_status(ERRORS.status_of(error, method="m").to_status())
    assert status.code is grpc.StatusCode.FAILED_PRECONDITION
    assert status.message == (
        "The incident's state does not allow this; it is RESOLVED, and must be OPEN or INVESTIGATING"
    )
    assert status.metadata == {"current_state": "RESOLVED", "allowed_states": "OPEN, INVESTIGATING"}
    assert status.preconditions == ("is RESOLVED, must be one of: OPEN, INVESTIGATING",)
