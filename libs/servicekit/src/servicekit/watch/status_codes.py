"""The statuses of the errors of Watch, for the error table of a service."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import grpc

from servicekit.rpc.status_details import FieldViolation, RpcStatus
from servicekit.watch.errors import (
    ResumeTokenAheadError,
    ResumeTokenOfOtherDatabaseError,
    TooManyWatchersError,
    WatchEndedError,
    WatcherTooSlowError,
)


def _too_many_watchers(error: TooManyWatchersError) -> RpcStatus:
    return RpcStatus(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        str(error),
        "TOO_MANY_WATCHERS",
        retry_after=timedelta(seconds=5),
    )


def _with_token(
    code: grpc.StatusCode, reason: str
) -> Callable[[WatcherTooSlowError | WatchEndedError], RpcStatus]:
    return lambda error: RpcStatus(code, str(error), reason, metadata={"resume_token": error.resume_token})


def _token_refused(
    reason: str, description: str
) -> Callable[[ResumeTokenAheadError | ResumeTokenOfOtherDatabaseError], RpcStatus]:
    return lambda error: RpcStatus(
        grpc.StatusCode.INVALID_ARGUMENT,
        str(error),
        reason,
        field_violations=[FieldViolation("resume_token", description)],
    )


WATCH_ERRORS: Mapping[type[Exception], Callable[[Any], RpcStatus]] = {
    TooManyWatchersError: _too_many_watchers,
    WatcherTooSlowError: _with_token(grpc.StatusCode.RESOURCE_EXHAUSTED, "WATCHER_TOO_SLOW"),
    WatchEndedError: _with_token(grpc.StatusCode.UNAVAILABLE, "WATCH_ENDED"),
    ResumeTokenAheadError: _token_refused("RESUME_TOKEN_AHEAD", "is ahead of the database"),
    ResumeTokenOfOtherDatabaseError: _token_refused(
        "RESUME_TOKEN_OF_OTHER_DATABASE", "was issued before the database was restored or moved"
    ),
}
