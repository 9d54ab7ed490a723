"""Maps the status of a failed RPC to the outcome of its delivery: retry, or dead-letter."""

import grpc
import structlog

from servicekit.outbox.handler import PermanentError, UnreachableError

_log = structlog.get_logger()

# Permanent: the same call would be refused again.
_CANNOT_HEAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)
# They heal with a deploy or a changed role, so they are retried, and logged as errors for an operator.
_NEEDS_OPERATOR = frozenset(
    {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}
)
_UNREACHABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


class RpcFailedError(Exception):
    """An RPC failed in a way that may heal."""


def delivery_error(code: grpc.StatusCode | int, message: str) -> Exception:
    """Return the error of a delivery whose RPC ended with `code`: a PermanentError when it cannot heal."""
    if isinstance(code, int):
        code = _BY_NUMBER.get(code, grpc.StatusCode.UNKNOWN)
    text = f"{code.name}: {message}"
    if code in _CANNOT_HEAL:
        return PermanentError(text)
    if code in _UNREACHABLE:
        return UnreachableError(text)
    if code in _NEEDS_OPERATOR:
        _log.error("delivery_refused", code=code.name, error=message)
    return RpcFailedError(text)
