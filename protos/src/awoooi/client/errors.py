"""What a failed call raises: one class per gRPC code, with the details of its google.rpc.Status."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar, cast

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

_STATUS_TRAILER = "grpc-status-details-bin"

Detail = TypeVar("Detail", bound=Message)


class FieldViolation(NamedTuple):
    """A field of the request, by its path, and what is wrong with it."""

    field: str
    description: str


class Precondition(NamedTuple):
    """What has to change before the call can succeed."""

    type: str
    subject: str
    description: str


class Resource(NamedTuple):
    """The resource that an error is about, such as `awoooi.incident.v1.Incident` and its id."""

    type: str
    name: str


class CallError(Exception):
    """A call failed. Codes without a class of their own, such as CANCELLED, raise this one."""

    def __init__(
        self, method: str, code: grpc.StatusCode, message: str, details: Sequence[any_pb2.Any] = ()
    ) -> None:
        """Read the well-known details; `details` keeps all of them."""
        super().__init__(method, code, message, tuple(details))
        self.method = method
        self.code = code
        self.message = message
        self.details = tuple(details)
        info = self._detail(error_details_pb2.ErrorInfo)
        # UPPER_SNAKE, stable, for programs. Empty when the failure is not the service's, such as a lost connection.
        self.reason: str = info.reason
        self.metadata: Mapping[str, str] = dict(info.metadata)
        resource = self._detail(error_details_pb2.ResourceInfo)
        self.resource = (
            Resource(resource.resource_type, resource.resource_name) if resource.resource_type else None
        )
        # Seconds. None without a RetryInfo detail.
        self.retry_delay: float | None = None
        retry = self._detail(error_details_pb2.RetryInfo)
        if retry.HasField("retry_delay"):
            self.retry_delay = retry.retry_delay.ToTimedelta().total_seconds()

    def __str__(self) -> str:
        method = f"{self.method}: " if self.method else ""
        reason = f" ({self.reason})" if self.reason else ""
        return f"{method}{self.code.name}{reason}: {self.message}"

    def _detail(self, kind: type[Detail]) -> Detail:
        """Return the detail of this kind, empty when there is none: AIP-193 allows each kind once."""
        found = kind()
        for detail in self.details:
            # What cannot be parsed must not hide the failure itself.
            with suppress(DecodeError):
                if detail.Unpack(found):
                    break
        return found


class InvalidArgumentError(CallError):
    """The request breaks a rule of the contract; `field_violations` names the fields."""

    @property
    def field_violations(self) -> tuple[FieldViolation, ...]:
        """The fields, in the order of the rules."""
        bad_request = self._detail(error_details_pb2.BadRequest)
        return tuple(FieldViolation(each.field, each.description) for each in bad_request.field_violations)


class FailedPreconditionError(CallError):
    """The resource's state does not allow the call; a retry does not help."""

    @property
    def current_state(self) -> str:
        """The state that the resource is in, such as RESOLVED. Empty when the failure is not about a state."""
        return self.metadata.get("current_state", "")

    @property
    def allowed_states(self) -> tuple[str, ...]:
        """The states in which the call would be allowed."""
        allowed = self.metadata.get("allowed_states", "")
        return tuple(allowed.split(", ")) if allowed else ()

    @property
    def preconditions(self) -> tuple[Precondition, ...]:
        """What has to change, for a reader."""
        failure = self._detail(error_details_pb2.PreconditionFailure)
        return tuple(Precondition(each.type, each.subject, each.description) for each in failure.violations)


class NotFoundError(CallError):
    """There is no such resource; `resource` names it."""


class AlreadyExistsError(CallError):
    """The request_id, event_id or id is known with other content."""


class AbortedError(CallError):
    """A concurrent write came first: read again and decide again."""


class PermissionDeniedError(CallError):
    """The caller may not do this, or is the proposer of what it decides about."""


class UnauthenticatedError(CallError):
    """The credentials are missing or not accepted."""


class ResourceExhaustedError(CallError):
    """The server is overloaded, or a message is too large."""


class UnavailableError(CallError):
    """The server cannot be reached, or cannot serve now."""


class DeadlineExceededError(CallError):
    """No response within the timeout: the call may or may not have taken effect."""


class UnimplementedError(CallError):
    """The server does not know the method."""


class InternalError(CallError):
    """The server failed; `metadata` has the correlation_id of its log."""


class InvalidResponseError(InternalError):
    """The server's response cannot be parsed."""


_CLASSES: Mapping[grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.ABORTED: AbortedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
    grpc.StatusCode.INTERNAL: InternalError,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def error_from_status(status: status_pb2.Status, method: str = "") -> CallError:
    """Return the error of a google.rpc.Status, such as that of one item of BatchResolve."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _CLASSES.get(code, CallError)(method, code, status.message, status.details)


def error_from_rpc(failure: grpc.RpcError, method: str) -> CallError:
    """Return the error of a failed call of grpc or grpc.aio."""
    code = failure.code()
    return _CLASSES.get(code, CallError)(method, code, failure.details() or "", _details(failure))


def _details(failure: grpc.RpcError) -> Sequence[any_pb2.Any]:
    # Pairs, or named tuples, which the type stubs do not know to be tuples.
    trailers = cast("Iterable[tuple[str, str | bytes]]", failure.trailing_metadata() or ())
    for key, value in trailers:
        if key == _STATUS_TRAILER and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value).details
            except DecodeError:
                break
    return ()
