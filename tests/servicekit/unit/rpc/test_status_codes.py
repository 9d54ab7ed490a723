"""The error table: the status that each class of error is mapped to, and what it never contains."""

import asyncio
from typing import Any

import asyncpg
import grpc
import pytest
import structlog
from google.rpc import error_details_pb2
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from servicekit.database.errors import DatabaseUnavailableError
from servicekit.rpc.page_tokens import InvalidPageTokenError
from servicekit.rpc.status_codes import ErrorTable
from servicekit.rpc.status_details import FieldViolation, RpcError, RpcStatus
from tests.rpc_errors import read_status

SECRET = "postgresql://app:hunter2@db SELECT secret FROM table"


class KnownError(Exception):
    """Something known."""


class NarrowerError(KnownError):
    """Known by its base."""


class NarrowestError(NarrowerError):
    """Has an entry of its own."""


TABLE = ErrorTable(
    {
        KnownError: lambda _error: RpcStatus(grpc.StatusCode.NOT_FOUND, "known", "KNOWN"),
        NarrowestError: lambda _error: RpcStatus(grpc.StatusCode.ABORTED, "narrowest", "NARROWEST"),
    }
)


def driver_error(code: str | None, *, invalidated: bool = False) -> DBAPIError:
    """What SQLAlchemy raises around asyncpg's error with this SQLSTATE."""
    error = DBAPIError(SECRET, {}, Exception(SECRET), connection_invalidated=invalidated)
    error.orig.sqlstate = code  # type: ignore[union-attr]  # as the asyncpg dialect sets it
    return error


CASES: dict[str, tuple[Exception, grpc.StatusCode, str]] = {
    "by class": (KnownError(), grpc.StatusCode.NOT_FOUND, "KNOWN"),
    "by base": (NarrowerError(), grpc.StatusCode.NOT_FOUND, "KNOWN"),
    "narrowest first": (NarrowestError(), grpc.StatusCode.ABORTED, "NARROWEST"),
    "refused": (
        RpcError(RpcStatus(grpc.StatusCode.OUT_OF_RANGE, "no", "NO")),
        grpc.StatusCode.OUT_OF_RANGE,
        "NO",
    ),
    "page token": (InvalidPageTokenError(SECRET), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    # What generated code raises for a method that a servicer does not have.
    "not implemented": (NotImplementedError(SECRET), grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED"),
    "pool exhausted": (PoolTimeoutError(SECRET), grpc.StatusCode.RESOURCE_EXHAUSTED, "DATABASE_BUSY"),
    "no connection": (DatabaseUnavailableError(SECRET), grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"),
    "connection reset": (ConnectionResetError(SECRET), grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"),
    "driver gone": (
        InterfaceError(SECRET, {}, Exception()),
        grpc.StatusCode.UNAVAILABLE,
        "DATABASE_UNAVAILABLE",
    ),
    "unknown": (ValueError(SECRET), grpc.StatusCode.INTERNAL, "INTERNAL"),
    "a bug": (TypeError(SECRET), grpc.StatusCode.INTERNAL, "INTERNAL"),
    "key error": (KeyError(SECRET), grpc.StatusCode.INTERNAL, "INTERNAL"),
    "group": (ExceptionGroup(SECRET, [ValueError(SECRET)]), grpc.StatusCode.INTERNAL, "INTERNAL"),
    "bare driver": (asyncpg.PostgresError(SECRET), grpc.StatusCode.INTERNAL, "INTERNAL"),
}


@pytest.mark.parametrize(("error", "code", "reason"), CASES.values(), ids=CASES.keys())
def test_the_status_of_a_class_of_errors(error: Exception, code: grpc.StatusCode, reason: str) -> None:
    refusal = read_status(TABLE.status_of(error, method="/a.B/C").to_status())
    assert (refusal.code, refusal.reason) == (code, reason)
    assert "hunter2" not in refusal.wire
    assert "SELECT" not in refusal.wire


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("08006", grpc.StatusCode.UNAVAILABLE),
        ("08001", grpc.StatusCode.UNAVAILABLE),
        ("53100", grpc.StatusCode.UNAVAILABLE),
        ("53300", grpc.StatusCode.UNAVAILABLE),
        ("57P01", grpc.StatusCode.UNAVAILABLE),
        ("57P02", grpc.StatusCode.UNAVAILABLE),
        ("57P03", grpc.StatusCode.UNAVAILABLE),
        ("57014", grpc.StatusCode.UNAVAILABLE),
        ("55P03", grpc.StatusCode.UNAVAILABLE),
        ("25006", grpc.StatusCode.UNAVAILABLE),
        ("40001", grpc.StatusCode.UNAVAILABLE),
        ("40P01", grpc.StatusCode.UNAVAILABLE),
        ("42P01", grpc.StatusCode.UNAVAILABLE),
        ("42601", grpc.StatusCode.INTERNAL),
        ("22003", grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("2200H", grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("23505", grpc.StatusCode.INTERNAL),
        ("42501", grpc.StatusCode.UNAVAILABLE),
        (None, grpc.StatusCode.INTERNAL),
    ],
)
def test_the_status_of_a_driver_error(code: str | None, expected: grpc.StatusCode) -> None:
    refusal = read_status(TABLE.status_of(driver_error(code), method="/a.B/C").to_status())
    assert refusal.code is expected
    assert "hunter2" not in refusal.wire


def test_a_connection_that_broke_is_unavailable_with_every_message_of_the_driver() -> None:
    refused = TABLE.status_of(driver_error(None, invalidated=True), method="/a.B/C")
    assert refused.code is grpc.StatusCode.UNAVAILABLE


def test_an_unknown_error_is_in_the_log_whole_under_the_id_that_the_caller_gets() -> None:
    error = ValueError("what really happened")
    with structlog.testing.capture_logs() as log:
        refusal = read_status(TABLE.status_of(error, method="/a.B/C").to_status())
    assert refusal.message == "internal error"
    assert list(refusal.metadata) == ["correlation_id"]
    (line,) = log
    assert line["event"] == "rpc_internal_error"
    assert line["log_level"] == "error"
    assert line["method"] == "/a.B/C"
    assert line["correlation_id"] == refusal.metadata["correlation_id"]
    assert line["exc_info"] is error


def test_two_unknown_errors_have_two_ids() -> None:
    ids = {TABLE.status_of(ValueError(), method="m").metadata["correlation_id"] for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    "error", [PoolTimeoutError(), DatabaseUnavailableError()], ids=lambda error: type(error).__name__
)
def test_what_may_be_tried_again_says_when(error: Exception) -> None:
    refusal = read_status(TABLE.status_of(error, method="m").to_status())
    assert refusal.retry_after_seconds == 1


def test_every_detail_of_a_refusal_reaches_the_wire() -> None:
    refused = RpcStatus(
        grpc.StatusCode.FAILED_PRECONDITION,
        "no",
        "NO",
        metadata={"a": "b"},
        field_violations=[FieldViolation("x.y", "is bad")],
        precondition=("STATE", "subject", "is A, must be B"),
        resource=("type", "name"),
    )
    refusal = read_status(refused.to_status())
    assert refusal.metadata == {"a": "b"}
    assert refusal.fields == ("x.y",)
    assert refusal.descriptions == ("is bad",)
    assert refusal.preconditions == ("is A, must be B",)
    assert refusal.resource == ("type", "name")
    assert refusal.retry_after_seconds is None


def test_many_violations_are_cut_off() -> None:
    violations = [FieldViolation(f"f{number}", "is bad") for number in range(100)]
    status = RpcStatus(grpc.StatusCode.INVALID_ARGUMENT, "no", "NO", field_violations=violations).to_status()
    bad = error_details_pb2.BadRequest()
    status.details[1].Unpack(bad)
    assert 0 < len(bad.field_violations) <= 20


async def test_a_timeout_that_is_not_the_databases_is_an_internal_error() -> None:
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0):
            await asyncio.sleep(1)
    refused: Any = TABLE.status_of(caught.value, method="m")
    assert refused.code is grpc.StatusCode.INTERNAL
