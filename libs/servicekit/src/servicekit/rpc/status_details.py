"""google.rpc.Status for the wire: one ErrorInfo, and the details that help a caller act.

Texts are constant, but for the names of bad fields and of states. What varies otherwise goes into the details' fields, and
only what the caller may know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "flywheel.awoooi"
# gRPC puts the status details into a header; a peer may refuse large ones.
MAX_VIOLATIONS = 20
_MAX_MESSAGE_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request, by its path, and what is wrong with it."""

    field: str
    description: str


def invalid_argument_message(violations: Sequence[FieldViolation]) -> str:
    """Return the message for bad fields: each with what is wrong with it, as far as there is room, else its name.

    Many clients show the message alone and leave the details encoded.
    """
    parts: list[str] = []
    room = _MAX_MESSAGE_CHARACTERS
    firsts: dict[str, str] = {}
    for violation in violations:
        firsts.setdefault(violation.field, violation.description)
    for name, description in firsts.items():
        text = f"{name}: {description}"
        shown = text if len(text) <= room else name
        if len(shown) > room:
            parts.append("and others")
            break
        parts.append(shown)
        room -= len(shown) + len("; ")
    return f"invalid argument: {'; '.join(parts)}"


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """The status that a caller gets: a gRPC code, a constant message, an UPPER_SNAKE reason, and details."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    field_violations: Sequence[FieldViolation] = ()
    # (type, subject, description) of what has to change before the call can pass.
    precondition: tuple[str, str, str] | None = None
    # (type, name) of the resource that the error is about.
    resource: tuple[str, str] | None = None
    retry_after: timedelta | None = None

    def to_status(self) -> status_pb2.Status:
        """Return the google.rpc.Status of this error."""
        return status_pb2.Status(
            code=self.code.value[0],
            message=self.message,
            details=[_pack(detail) for detail in self._details()],
        )

    def _details(self) -> Sequence[Message]:
        details: list[Message] = [
            error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        ]
        if self.field_violations:
            details.append(
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                        for v in self.field_violations[:MAX_VIOLATIONS]
                    ]
                )
            )
        if self.precondition is not None:
            kind, subject, description = self.precondition
            details.append(
                error_details_pb2.PreconditionFailure(
                    violations=[
                        error_details_pb2.PreconditionFailure.Violation(
                            type=kind, subject=subject, description=description
                        )
                    ]
                )
            )
        if self.resource is not None:
            resource_type, name = self.resource
            details.append(error_details_pb2.ResourceInfo(resource_type=resource_type, resource_name=name))
        if self.retry_after is not None:
            delay = duration_pb2.Duration()
            delay.FromTimedelta(self.retry_after)
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        return details


def state_not_allowed(
    message: str,
    reason: str,
    *,
    subject: str,
    current: str,
    allowed: Sequence[str],
    resource: tuple[str, str] | None = None,
) -> RpcStatus:
    """Return the status of a call that the state of its `subject` does not allow.

    The states are in the message too: many clients show the message alone and leave the details encoded.
    """
    listed = ", ".join(allowed)
    return RpcStatus(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"{message.removesuffix('.')}; it is {current}, and must be {' or '.join(allowed)}",
        reason,
        metadata={"current_state": current, "allowed_states": listed},
        precondition=("STATE", subject, f"is {current}, must be one of: {listed}"),
        resource=resource,
    )


class RpcError(Exception):
    """A call is refused for a reason that the transport, not a service's rules, found."""

    def __init__(self, status: RpcStatus) -> None:
        super().__init__(status.message)
        self.status = status


def _pack(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
