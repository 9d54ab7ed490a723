"""Every error of the service is in the one table."""

from collections.abc import Iterator

import grpc
import pytest

from approval.delivery.errors import DeliveryDoneError, DeliveryNotParkedError
from approval.delivery.model import DeliveryState
from approval.errors import AlreadySupersededError, ApprovalError, TransitionNotAllowedError
from approval.model import State
from approval.status_codes import ERRORS
from servicekit.rpc.status_codes import ErrorTable
from servicekit.watch.status_codes import WATCH_ERRORS

CODES = {
    "ApprovalNotFoundError": grpc.StatusCode.NOT_FOUND,
    "IncidentNotFoundError": grpc.StatusCode.NOT_FOUND,
    "IncidentResolvedError": grpc.StatusCode.FAILED_PRECONDITION,
    "IncidentUnreachableError": grpc.StatusCode.UNAVAILABLE,
    "TransitionNotAllowedError": grpc.StatusCode.FAILED_PRECONDITION,
    "AlreadySupersededError": grpc.StatusCode.FAILED_PRECONDITION,
    "SupersedesOtherIncidentError": grpc.StatusCode.FAILED_PRECONDITION,
    "ConflictingDecisionError": grpc.StatusCode.FAILED_PRECONDITION,
    "SelfApprovalError": grpc.StatusCode.PERMISSION_DENIED,
    "NotProposerError": grpc.StatusCode.PERMISSION_DENIED,
    "ApprovalChangedError": grpc.StatusCode.ABORTED,
    "RequestIdReusedError": grpc.StatusCode.ALREADY_EXISTS,
    "ActionChangedError": grpc.StatusCode.FAILED_PRECONDITION,
    "NotCanaryError": grpc.StatusCode.FAILED_PRECONDITION,
    "ExecutorMissingError": grpc.StatusCode.FAILED_PRECONDITION,
    "DeliveryNotFoundError": grpc.StatusCode.NOT_FOUND,
    "DeliveryDoneError": grpc.StatusCode.FAILED_PRECONDITION,
    "DeliveryNotParkedError": grpc.StatusCode.FAILED_PRECONDITION,
}


def _subclasses(cls: type[ApprovalError]) -> Iterator[type[ApprovalError]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


CLASSES = sorted(_subclasses(ApprovalError), key=lambda cls: cls.__name__)


def _instance(cls: type[ApprovalError]) -> ApprovalError:
    if issubclass(cls, AlreadySupersededError):
        return cls("APR-20260507-99ADF2", superseded_by="APR-20260507-99ADF3")
    if issubclass(cls, TransitionNotAllowedError):
        return cls("APR-20260507-99ADF2", current=State.EXPIRED, allowed=(State.PENDING, State.APPROVED))
    if issubclass(cls, DeliveryDoneError | DeliveryNotParkedError):
        return cls(99, current=DeliveryState.DONE, allowed=(DeliveryState.PARKED,))
    takes_id = cls.__init__ is not ApprovalError.__init__
    # Of an approval or an incident: the table maps both the same way.
    return cls(*(["ANY-20260507-99ADF2"] if takes_id else []))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_is_mapped_to_its_status_code(cls: type[ApprovalError]) -> None:
    assert cls in ERRORS.entries
    refusal = ERRORS.status_of(_instance(cls), method="")
    assert refusal.code is CODES[cls.__name__]
    assert refusal.reason.isupper()
    assert cls.__doc__ is not None
    if "current_state" not in refusal.metadata:
        assert refusal.message == cls.__doc__
        return
    said, _, states = refusal.message.rpartition("; ")
    assert said == cls.__doc__.removesuffix(".")
    allowed = refusal.metadata["allowed_states"].replace(", ", " or ")
    assert states == f"it is {refusal.metadata['current_state']}, and must be {allowed}"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_no_status_message_contains_a_value_of_the_request(cls: type[ApprovalError]) -> None:
    assert "99ADF2" not in ERRORS.status_of(_instance(cls), method="").message


def test_only_errors_of_the_service_are_in_the_table() -> None:
    assert set(ERRORS.entries) == {*CLASSES, *WATCH_ERRORS}


def test_an_error_without_an_entry_is_internal() -> None:
    assert ErrorTable({}).status_of(
        TransitionNotAllowedError("", current=State.PENDING, allowed=()), method=""
    ).code is (grpc.StatusCode.INTERNAL)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_failed_precondition_of_a_state_names_the_states(cls: type[ApprovalError]) -> None:
    refusal = ERRORS.status_of(_instance(cls), method="")
    # These are about the server, the action and the incident, not about a state.
    if refusal.code is grpc.StatusCode.FAILED_PRECONDITION and cls.__name__ not in (
        "ActionChangedError",
        "SupersedesOtherIncidentError",
        "ExecutorMissingError",
        "NotCanaryError",
    ):
        assert refusal.metadata["current_state"]
        assert refusal.metadata["allowed_states"]


def test_the_status_of_a_refused_transition_has_the_current_and_the_allowed_states() -> None:
    refusal = ERRORS.status_of(_instance(TransitionNotAllowedError), method="Approve")
    assert refusal.metadata == {"current_state": "EXPIRED", "allowed_states": "PENDING, APPROVED"}
    assert refusal.precondition is not None
    assert refusal.precondition[:2] == ("STATE", "APR-20260507-99ADF2")
