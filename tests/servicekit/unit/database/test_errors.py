"""The classification of database errors: every class of the driver and of SQLAlchemy is in one of its tables."""

import asyncio
import errno
import inspect
import socket
import ssl
from typing import Any

import asyncpg
import pytest
from asyncpg import exceptions as driver_errors
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import DBAPIError

from servicekit.database import errors
from servicekit.database.errors import (
    DatabaseUnavailableError,
    constraint_name,
    is_data_error,
    is_refused,
    is_unavailable,
    meaning_of,
    reason_of,
    sqlstate,
)

DIALECT: Any = PGDialect_asyncpg
DBAPI: Any = DIALECT.import_dbapi()


def classes_of(module: Any) -> list[type[Exception]]:
    """Every exception class that a module has, its warnings left out."""
    found = [each for _, each in inspect.getmembers(module, inspect.isclass)]
    return [each for each in found if issubclass(each, Exception) and not issubclass(each, Warning)]


def all_subclasses(base: type[Exception]) -> set[type[Exception]]:
    return {base}.union(*(all_subclasses(each) for each in base.__subclasses__()))


DRIVER_CLASSES = sorted(
    {
        cls
        for base in (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
        for cls in all_subclasses(base)
        if cls.__module__.startswith("asyncpg")
    },
    key=lambda cls: (cls.__qualname__, cls.__module__),
)
# Without a code of its own: what the driver makes of a code that it does not know.
CODELESS = (
    asyncpg.PostgresError,
    driver_errors.FatalPostgresError,
    driver_errors.UnknownPostgresError,
)


def wrapped(error: Exception, *, invalidated: bool = False) -> DBAPIError:
    """The driver's error as SQLAlchemy raises it."""
    translations = DBAPI._asyncpg_error_translate
    cls = next((translations[base] for base in type(error).__mro__ if base in translations), DBAPI.Error)
    translated = cls("a message", error)
    translated.__cause__ = error
    made = DBAPIError.instance(
        "SELECT 1",
        {},
        translated,
        DBAPI.Error,
        connection_invalidated=invalidated,
        dialect=DIALECT(),
    )
    assert isinstance(made, DBAPIError)
    return made


def test_the_walk_finds_the_drivers_classes() -> None:
    assert len(DRIVER_CLASSES) > 250
    assert set(classes_of(driver_errors)) <= set(DRIVER_CLASSES)


@pytest.mark.parametrize("cls", DRIVER_CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__qualname__}")
def test_every_class_of_the_driver_is_in_a_table_and_means_the_same_within_sqlalchemy(
    cls: type[Exception],
) -> None:
    code = getattr(cls, "sqlstate", None)
    named = any(base in errors._BY_CLASS for base in cls.__mro__)
    assert named or cls in CODELESS or (code is not None and code[:2] in errors._BY_CODE_CLASS)
    error = cls("a message")
    assert meaning_of(wrapped(error)) is meaning_of(error)


@pytest.mark.parametrize("cls", classes_of(sqlalchemy_errors), ids=lambda cls: cls.__qualname__)
def test_every_class_of_sqlalchemy_is_in_a_table(cls: type[Exception]) -> None:
    assert (
        any(base in errors._BY_CLASS for base in cls.__mro__)
        or cls is sqlalchemy_errors.EmulatedDBAPIException
    )


def test_every_code_of_the_table_is_one_that_the_driver_knows() -> None:
    known = {code for cls in DRIVER_CLASSES if (code := getattr(cls, "sqlstate", None))}
    assert set(errors._BY_CODE) <= known
    assert set(errors._BY_CODE_CLASS) == {code[:2] for code in known}


UNAVAILABLE = {
    "no host matches": driver_errors.TargetServerAttributeNotMatched("None of the hosts match"),
    "connection closed": asyncpg.InterfaceError("connection is closed"),
    "driver lost track": asyncpg.InternalClientError("unexpected state"),
    "protocol": driver_errors.ProtocolError("unexpected message"),
    "schema changed, types": driver_errors.OutdatedSchemaCacheError("schema changed"),
    "schema changed, statement": driver_errors.InvalidCachedStatementError("cached plan must not change"),
    "demoted": driver_errors.ReadOnlySQLTransactionError("cannot execute INSERT"),
    "starting up": driver_errors.CannotConnectNowError("the database system is starting up"),
    "terminated": driver_errors.AdminShutdownError("terminating connection"),
    "idle too long": driver_errors.IdleSessionTimeoutError("terminating connection"),
    "idle in transaction": driver_errors.IdleInTransactionSessionTimeoutError("terminating connection"),
    "recovering": driver_errors.ObjectNotInPrerequisiteStateError("recovery is in progress"),
    "disk full": driver_errors.DiskFullError("could not extend file"),
    "too many": driver_errors.TooManyConnectionsError("sorry, too many clients already"),
    "deadlock": driver_errors.DeadlockDetectedError("deadlock detected"),
    "lock timeout": driver_errors.LockNotAvailableError("canceling statement due to lock timeout"),
    "statement timeout": driver_errors.QueryCanceledError("canceling statement due to statement timeout"),
    "pooler": driver_errors.ProtocolViolationError("server login has been failing"),
    "not migrated": driver_errors.UndefinedTableError("relation does not exist"),
    "pool exhausted": sqlalchemy_errors.TimeoutError(),
    "ended in a transaction": sqlalchemy_errors.PendingRollbackError(),
    "reset": ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    "no route": OSError(errno.EHOSTUNREACH, "No route to host"),
    "no answer": TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
    "no such host": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    "tls": ssl.SSLError(1, "wrong version number"),
    "cut off": asyncio.IncompleteReadError(b"", 4),
}


@pytest.mark.parametrize("error", UNAVAILABLE.values(), ids=UNAVAILABLE.keys())
def test_what_may_work_when_it_is_retried_is_unavailable(error: Exception) -> None:
    assert is_unavailable(error)
    assert not is_refused(error)
    connecting = DatabaseUnavailableError()
    connecting.__cause__ = error
    assert is_unavailable(connecting)
    assert not is_refused(connecting)


REFUSED = {
    "password": driver_errors.InvalidPasswordError("password authentication failed"),
    "pg_hba": driver_errors.InvalidAuthorizationSpecificationError("no pg_hba.conf entry"),
    "database": driver_errors.InvalidCatalogNameError("database does not exist"),
    "schema": driver_errors.InvalidSchemaNameError("no schema has been selected to create in"),
    "rights": driver_errors.InsufficientPrivilegeError("permission denied for schema public"),
    "settings": asyncpg.ClientConfigurationError("sslmode"),
}


@pytest.mark.parametrize("error", REFUSED.values(), ids=REFUSED.keys())
def test_what_an_operator_has_to_change_is_refused_and_unavailable_to_callers(error: Exception) -> None:
    assert is_refused(error)
    assert is_refused(wrapped(error))
    assert is_unavailable(error)
    connecting = DatabaseUnavailableError()
    connecting.__cause__ = error
    assert is_refused(connecting)


DEFECTS = {
    "syntax": driver_errors.PostgresSyntaxError("syntax error"),
    "type": driver_errors.DatatypeMismatchError("is of type"),
    "trigger": driver_errors.RaiseError("raised"),
    "server": driver_errors.InternalServerError("cache lookup failed"),
    "no code": asyncpg.PostgresError("?"),
    "clock of our own": TimeoutError(),
    "file": FileNotFoundError(errno.ENOENT, "No such file or directory"),
    "argument": sqlalchemy_errors.ArgumentError("?"),
    "bug": TypeError("?"),
}


@pytest.mark.parametrize("error", DEFECTS.values(), ids=DEFECTS.keys())
def test_a_defect_is_neither_unavailable_nor_the_values_fault(error: Exception) -> None:
    assert not is_unavailable(error)
    assert not is_data_error(error)


def test_values_that_the_database_or_the_driver_cannot_take_are_data_errors() -> None:
    for error in (
        driver_errors.UniqueViolationError("duplicate key"),
        driver_errors.NumericValueOutOfRangeError("bigint out of range"),
        driver_errors.DataError("invalid input for query argument $1: value out of int32 range"),
    ):
        assert is_data_error(wrapped(error))
        assert not is_unavailable(wrapped(error))


def test_a_broken_connection_is_unavailable_with_every_driver_error() -> None:
    error = wrapped(driver_errors.PostgresSyntaxError("?"), invalidated=True)
    assert is_unavailable(error)
    assert not is_data_error(error)


def test_sqlstate_and_constraint_are_those_of_the_wrapped_error() -> None:
    violation = driver_errors.UniqueViolationError("duplicate key")
    violation.constraint_name = "incidents_pkey"
    assert sqlstate(wrapped(violation)) == "23505"
    assert constraint_name(wrapped(violation)) == "incidents_pkey"
    assert sqlstate(ValueError()) is None
    assert constraint_name(ValueError()) is None


def connecting(cause: Exception) -> DatabaseUnavailableError:
    error = DatabaseUnavailableError()
    error.__cause__ = cause
    return error


def server_message(message: str, **fields: str) -> Exception:
    """An error as the driver makes it of the server's message."""
    made: Exception = asyncpg.PostgresError.new({"S": "FATAL", "C": "28000", "M": message, **fields})
    return made


def test_a_reason_is_in_the_servers_own_words_and_one_line() -> None:
    words = 'database "no such" does not exist'
    for error in (
        server_message(words, D="and a detail", H="and a hint"),
        connecting(server_message(words)),
        wrapped(server_message(words, D="Key (title)=(secret) exists")),
        connecting(wrapped(server_message(words))),
    ):
        assert reason_of(error) == words
    assert reason_of(server_message("first\nsecond")) == "first"
    assert (
        reason_of(connecting(ConnectionRefusedError(111, "Connect call failed")))
        == "[Errno 111] Connect call failed"
    )
    assert reason_of(connecting(TimeoutError())) == "no answer in time"
    assert reason_of(DatabaseUnavailableError("the connection is silent")) == "the connection is silent"
    assert reason_of(
        connecting(driver_errors.TargetServerAttributeNotMatched("None of the hosts match"))
    ) == ("None of the hosts match")
    assert reason_of(DatabaseUnavailableError()) == "DatabaseUnavailableError"
