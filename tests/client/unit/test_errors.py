"""What a failed call raises."""

import pickle
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from awoooi import client
from awoooi.client import (
    CallError,
    FailedPreconditionError,
    InvalidArgumentError,
    InvalidResponseError,
    error_from_status,
)
from awoooi.client.errors import error_from_rpc
from servicekit.rpc.status_details import FieldViolation, RpcStatus

METHOD = "awoooi.incident.v1.IncidentService/Resolve"


def failed(status: RpcStatus) -> CallError:
    """The error that a client raises for what a server answers."""
    return error_from_status(status.to_status(), METHOD)


def test_every_code_that_a_service_sends_has_a_class_of_its_own() -> None:
    without_class = {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN}
    without_class |= {grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.DATA_LOSS}
    for code in grpc.StatusCode:
        error = failed(RpcStatus(code, "no", "REASON"))
        name = f"{code.name.title().replace('_', '')}Error"
        assert type(error) is (CallError if code in without_class else getattr(client, name))
        assert (error.code, error.message, error.reason, error.method) == (code, "no", "REASON", METHOD)


def test_an_invalid_argument_names_the_fields() -> None:
    violations = [FieldViolation("title", "must not be blank"), FieldViolation("labels[a]", "is too long")]
    error = failed(RpcStatus(grpc.StatusCode.INVALID_ARGUMENT, "bad", "BAD", field_violations=violations))
    assert isinstance(error, InvalidArgumentError)
    assert error.field_violations == (("title", "must not be blank"), ("labels[a]", "is too long"))
    assert error.field_violations[0].field == "title"


def test_a_failed_precondition_has_the_current_and_the_allowed_states() -> None:
    error = failed(
        RpcStatus(
            grpc.StatusCode.FAILED_PRECONDITION,
            "no",
            "STATE",
            metadata={"current_state": "RESOLVED", "allowed_states": "OPEN, INVESTIGATING"},
            precondition=("STATE", "INC-1", "is RESOLVED, must be one of: OPEN, INVESTIGATING"),
        )
    )
    assert isinstance(error, FailedPreconditionError)
    assert (error.current_state, error.allowed_states) == ("RESOLVED", ("OPEN", "INVESTIGATING"))
    [precondition] = error.preconditions
    assert (precondition.type, precondition.subject) == ("STATE", "INC-1")
    assert precondition.description == "is RESOLVED, must be one of: OPEN, INVESTIGATING"


def test_a_failed_precondition_about_something_else_has_no_states() -> None:
    error = failed(RpcStatus(grpc.StatusCode.FAILED_PRECONDITION, "no", "EXECUTOR_MISSING"))
    assert isinstance(error, FailedPreconditionError)
    assert (error.current_state, error.allowed_states, error.preconditions) == ("", (), ())


def test_resource_retry_delay_and_metadata_are_read() -> None:
    error = failed(
        RpcStatus(
            grpc.StatusCode.UNAVAILABLE,
            "down",
            "DOWN",
            metadata={"resume_token": "t"},
            resource=("awoooi.incident.v1.Incident", "INC-1"),
            retry_after=timedelta(seconds=1.5),
        )
    )
    assert error.resource == ("awoooi.incident.v1.Incident", "INC-1")
    assert error.retry_delay == pytest.approx(1.5)
    assert error.metadata == {"resume_token": "t"}


def test_a_retry_delay_of_zero_is_not_none() -> None:
    assert (
        failed(RpcStatus(grpc.StatusCode.UNAVAILABLE, "x", "X", retry_after=timedelta(0))).retry_delay == 0.0
    )
    assert failed(RpcStatus(grpc.StatusCode.UNAVAILABLE, "x", "X")).retry_delay is None


def test_a_detail_of_another_kind_is_kept() -> None:
    packed = any_pb2.Any()
    packed.Pack(details.LocalizedMessage(locale="en", message="no"))
    error = error_from_status(status_pb2.Status(code=5, message="no", details=[packed]))
    assert (error.reason, error.resource, error.details) == ("", None, (packed,))


def test_a_detail_that_cannot_be_parsed_does_not_hide_the_failure() -> None:
    broken = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")
    error = error_from_status(status_pb2.Status(code=5, message="no", details=[broken]))
    assert (type(error), error.message, error.reason) == (client.NotFoundError, "no", "")


def test_the_text_has_method_code_reason_and_message() -> None:
    assert str(failed(RpcStatus(grpc.StatusCode.NOT_FOUND, "There is none.", "GONE"))) == (
        f"{METHOD}: NOT_FOUND (GONE): There is none."
    )
    refused = status_pb2.Status(code=14, message="refused")
    assert str(error_from_status(refused, METHOD)) == f"{METHOD}: UNAVAILABLE: refused"
    assert str(error_from_status(refused)) == "UNAVAILABLE: refused"


@pytest.mark.parametrize(
    "trailers",
    [
        pytest.param((), id="none"),
        pytest.param((("grpc-status-details-bin", b"\xff\xff"),), id="cannot be parsed"),
        pytest.param((("grpc-status-details-bin", "text"),), id="text"),
        pytest.param((("other-bin", b""),), id="of others"),
    ],
)
def test_an_error_without_readable_details_has_its_code_and_message(
    trailers: tuple[tuple[str, str | bytes], ...],
) -> None:
    failure = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details="refused"
    )
    error = error_from_rpc(failure, METHOD)
    assert isinstance(error, client.UnavailableError)
    assert (error.message, error.reason, error.details) == ("refused", "", ())


def test_errors_can_be_pickled() -> None:
    error = failed(RpcStatus(grpc.StatusCode.NOT_FOUND, "no", "GONE", resource=("Incident", "INC-1")))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    assert (type(again), str(again), again.resource) == (type(error), str(error), error.resource)
    assert issubclass(InvalidResponseError, client.InternalError)
