"""The google.rpc.Status of a refused call."""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from awoooi.client import CallError

Detail = TypeVar("Detail", bound=Message)

_KINDS: Sequence[type[Message]] = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.ResourceInfo,
    error_details_pb2.RetryInfo,
)


@dataclass(frozen=True)
class Refused:
    """A google.rpc.Status, taken apart."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: Mapping[str, str]
    fields: tuple[str, ...]
    descriptions: tuple[str, ...]
    resource: tuple[str, str] | None
    preconditions: tuple[str, ...]
    retry_after_seconds: float | None
    # Everything that crossed the wire, for those who look for what must not.
    wire: str


async def refused(call: Awaitable[object]) -> Refused:
    """How a call was refused; fails when it was not, or without exactly one ErrorInfo of our domain."""
    try:
        await call
    except (CallError, grpc.aio.AioRpcError) as error:
        return read_refusal(error)
    pytest.fail("the call was not refused")


def read_refusal(error: CallError | grpc.aio.AioRpcError) -> Refused:
    """Take the status of a failed call apart."""
    if isinstance(error, CallError):
        assert error.details, f"no google.rpc.Status: {error}"
        return read_status(
            status_pb2.Status(code=error.code.value[0], message=error.message, details=error.details)
        )
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has all that is read
    assert status is not None, f"no google.rpc.Status: {error.code()} {error.details()}"
    found = read_status(status)
    assert (found.code, found.message) == (error.code(), error.details())
    return found


def read_status(status: status_pb2.Status) -> Refused:
    """Take a status apart; fails without exactly one ErrorInfo of our domain."""
    known = {f"type.googleapis.com/{kind.DESCRIPTOR.full_name}" for kind in _KINDS}
    unexpected = {detail.type_url for detail in status.details} - known
    assert not unexpected, f"an unexpected detail: {unexpected}"
    (info,) = _details(status, error_details_pb2.ErrorInfo)
    assert info.domain == "flywheel.awoooi"
    violations = [
        violation
        for bad in _details(status, error_details_pb2.BadRequest)
        for violation in bad.field_violations
    ]
    resource = next(iter(_details(status, error_details_pb2.ResourceInfo)), None)
    retry = next(iter(_details(status, error_details_pb2.RetryInfo)), None)
    return Refused(
        code=next(code for code in grpc.StatusCode if code.value[0] == status.code),
        message=status.message,
        reason=info.reason,
        metadata=dict(info.metadata),
        fields=tuple(violation.field for violation in violations),
        descriptions=tuple(violation.description for violation in violations),
        resource=None if resource is None else (resource.resource_type, resource.resource_name),
        preconditions=tuple(
            violation.description
            for failure in _details(status, error_details_pb2.PreconditionFailure)
            for violation in failure.violations
        ),
        retry_after_seconds=None if retry is None else retry.retry_delay.ToTimedelta().total_seconds(),
        wire=f"{status}",
    )


def _details(status: status_pb2.Status, kind: type[Detail]) -> Sequence[Detail]:
    """The details of one kind."""
    suffix = f"/{kind.DESCRIPTOR.full_name}"
    return [kind.FromString(detail.value) for detail in status.details if detail.type_url.endswith(suffix)]
