"""Maps exceptions to the status that a caller gets: a service's own classes by its table, the infrastructure's by ours."""

import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import grpc
import structlog
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from servicekit.database.errors import is_full, is_unavailable
from servicekit.rpc.page_tokens import InvalidPageTokenError
from servicekit.rpc.status_details import FieldViolation, RpcError, RpcStatus, invalid_argument_message

_log = structlog.get_logger()

_UNAVAILABLE = RpcStatus(
    grpc.StatusCode.UNAVAILABLE,
    "the database is not available now, try again",
    "DATABASE_UNAVAILABLE",
    retry_after=timedelta(seconds=1),
)
_BUSY = RpcStatus(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "too many calls wait for the database, try again",
    "DATABASE_BUSY",
    retry_after=timedelta(seconds=1),
)
_FULL = RpcStatus(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "a number that this call would raise is at its end: an operator has to look",
    "COUNTER_FULL",
)
_UNIMPLEMENTED = RpcStatus(
    grpc.StatusCode.UNIMPLEMENTED, "this method is not implemented by this version", "UNIMPLEMENTED"
)
_PAGE_TOKEN_VIOLATIONS = [FieldViolation("page_token", "was not given by this service for this request")]
_PAGE_TOKEN = RpcStatus(
    grpc.StatusCode.INVALID_ARGUMENT,
    invalid_argument_message(_PAGE_TOKEN_VIOLATIONS),
    "INVALID_ARGUMENT",
    field_violations=_PAGE_TOKEN_VIOLATIONS,
)


class ErrorTable:
    """One service's error classes, each with the function that makes its status."""

    def __init__(self, entries: Mapping[type[Exception], Callable[[Any], RpcStatus]]) -> None:
        self.entries = entries

    def status_of(self, exc: Exception, *, method: str) -> RpcStatus:
        """Return the status of `exc` for the caller of `method`.

        A class is looked up with its bases. An unknown exception is logged whole under a correlation id, and the caller
        gets only the id.
        """
        status = self.known_status(exc)
        if status is _UNAVAILABLE:
            _log.warning("rpc_database_unavailable", method=method, error=type(exc).__name__)
        if status is _FULL:
            _log.error("rpc_counter_full", method=method, exc_info=exc)
        if status is not None:
            return status
        correlation_id = uuid.uuid4().hex
        _log.error("rpc_internal_error", method=method, correlation_id=correlation_id, exc_info=exc)
        return RpcStatus(
            grpc.StatusCode.INTERNAL,
            "internal error",
            "INTERNAL",
            metadata={"correlation_id": correlation_id},
        )

    def known_status(self, exc: Exception) -> RpcStatus | None:  # noqa: PLR0911 - a table in words
        """Return the status of `exc`, without a line in the log; None when it is a bug."""
        if isinstance(exc, RpcError):
            return exc.status
        for cls in type(exc).__mro__:
            if cls in self.entries:
                return self.entries[cls](exc)
        if isinstance(exc, InvalidPageTokenError):
            return _PAGE_TOKEN
        if isinstance(exc, NotImplementedError):
            return _UNIMPLEMENTED
        if isinstance(exc, PoolTimeoutError):
            return _BUSY
        if is_unavailable(exc):
            return _UNAVAILABLE
        if is_full(exc):
            return _FULL
        return None
