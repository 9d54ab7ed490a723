"""What an error of the database means: one table by the driver's and SQLAlchemy's classes, one by SQLSTATE.

A test walks every class of both libraries and finds each in one of the tables.
"""

import errno
import socket
import ssl
from collections.abc import Iterator, Mapping
from enum import Enum

import asyncpg
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.exc import DBAPIError


class Meaning(Enum):
    """What to do about an error."""

    # The database cannot answer now: the same may work later.
    UNAVAILABLE = "unavailable"
    # The server turns this client away until an operator changes something: role, password, rights, database, settings.
    REFUSED = "refused"
    # Caused by the values of a statement: other values may pass.
    DATA = "data"
    # A number has no next one: the same cannot work, other rows may.
    FULL = "full"
    # A defect of this program, or of the schema.
    DEFECT = "defect"


class DatabaseUnavailableError(Exception):
    """The database cannot be reached."""


class ForeignDatabaseError(Exception):
    """The database belongs to another service."""


_UNAVAILABLE, _REFUSED, _DATA, _FULL, _DEFECT = Meaning

# By code, where a code means something else than its class of codes below.
_BY_CODE: Mapping[str, Meaning] = {
    "22003": _FULL,  # beyond the range of its type: values of callers never are
    "2200H": _FULL,  # a sequence
    "25006": _UNAVAILABLE,  # read-only: a standby, or a primary that was just demoted
    "25P03": _UNAVAILABLE,  # ended by idle_in_transaction_session_timeout
    "25P04": _UNAVAILABLE,  # ended by transaction_timeout
    "42501": _REFUSED,  # permission denied
    "42703": _UNAVAILABLE,  # no such column: this process is newer than the schema, and migration has yet to run
    "42P01": _UNAVAILABLE,  # no such table: as above
    "55P02": _DEFECT,  # a setting that cannot be changed now
    "55P04": _DEFECT,  # a new enum value, used too early
}

_BY_CODE_CLASS: Mapping[str, Meaning] = {
    "03": _DEFECT,
    "08": _UNAVAILABLE,  # connection exceptions; also a pooler's error about its server
    "09": _DEFECT,
    "0A": _DEFECT,  # feature not supported
    "0B": _DEFECT,
    "0F": _DEFECT,
    "0L": _DEFECT,
    "0P": _REFUSED,  # no such role
    "0Z": _DEFECT,
    "10": _DEFECT,
    "20": _DEFECT,
    "21": _DEFECT,
    "22": _DATA,  # data exceptions
    "23": _DATA,  # violated constraints
    "24": _DEFECT,
    "25": _DEFECT,  # transaction states
    "26": _DEFECT,
    "27": _DEFECT,
    "28": _REFUSED,  # authentication failed
    "2B": _DEFECT,
    "2D": _DEFECT,
    "2F": _DEFECT,
    "34": _DEFECT,
    "38": _DEFECT,
    "39": _DEFECT,
    "3B": _DEFECT,
    "3D": _REFUSED,  # no such database
    "3F": _REFUSED,  # no such schema
    "40": _UNAVAILABLE,  # rolled back: deadlock, serialization
    "42": _DEFECT,  # syntax, unknown names, wrong types
    "44": _DEFECT,
    "53": _UNAVAILABLE,  # out of disk, memory or connections
    "54": _DEFECT,  # limits of the program
    "55": _UNAVAILABLE,  # not in the prerequisite state: recovery in progress, lock not available
    "57": _UNAVAILABLE,  # operator intervention: shutting down, starting up, canceled
    "58": _UNAVAILABLE,  # system errors
    "72": _UNAVAILABLE,  # snapshot too old
    "F0": _UNAVAILABLE,  # configuration file of the server
    "HV": _DEFECT,  # foreign data wrappers
    "P0": _DEFECT,  # raised by a function
    "XX": _DEFECT,  # internal errors of the server
}

# By class, the most derived that is named. A driver's error that is not named here has a SQLSTATE.
_BY_CLASS: Mapping[type[BaseException], Meaning] = {
    DatabaseUnavailableError: _UNAVAILABLE,
    ForeignDatabaseError: _REFUSED,
    # asyncpg. An InterfaceError means that the connection is closed or in use; a connection after an internal error of the
    # client is in no known state.
    asyncpg.InterfaceError: _UNAVAILABLE,
    asyncpg.ClientConfigurationError: _REFUSED,
    asyncpg.UnsupportedClientFeatureError: _DEFECT,
    asyncpg.UnsupportedServerFeatureError: _DEFECT,
    asyncpg.InternalClientError: _UNAVAILABLE,
    # The schema changed under a prepared statement: it is prepared anew next time.
    asyncpg.InvalidCachedStatementError: _UNAVAILABLE,
    # SQLAlchemy. Its wrappers mean what the driver's error in them means; these two where there is none.
    sqlalchemy_errors.InterfaceError: _UNAVAILABLE,
    sqlalchemy_errors.OperationalError: _UNAVAILABLE,
    sqlalchemy_errors.TimeoutError: _UNAVAILABLE,  # no free connection in the pool
    sqlalchemy_errors.DisconnectionError: _UNAVAILABLE,
    sqlalchemy_errors.PendingRollbackError: _UNAVAILABLE,  # the connection was ended in the middle of a transaction
    sqlalchemy_errors.SQLAlchemyError: _DEFECT,
    # The network.
    ConnectionError: _UNAVAILABLE,
    EOFError: _UNAVAILABLE,
    socket.gaierror: _UNAVAILABLE,
    socket.herror: _UNAVAILABLE,
    ssl.SSLError: _UNAVAILABLE,
}

_QUERY_CANCELED = "57014"

# Other errors of the system are the network's when they have one of these numbers. A TimeoutError without a number is of a
# clock of our own, which may be about anything.
_NETWORK_ERRNO = frozenset(
    {
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENETRESET,
        errno.ENOBUFS,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
    }
)

# The exceptions that connecting may raise, of any meaning; a ValueError besides, for a URL that is none.
CONNECT_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


def meaning_of(exc: BaseException) -> Meaning:
    """Return what an error means: the driver's own, or one of SQLAlchemy around it."""
    if isinstance(exc, DatabaseUnavailableError) and exc.__cause__ is not None:
        cause = meaning_of(exc.__cause__)
        return _REFUSED if cause is _REFUSED else _UNAVAILABLE
    if isinstance(exc, DBAPIError):
        if exc.connection_invalidated:
            return _UNAVAILABLE
        if exc.orig is not None and (found := _found(exc.orig.__cause__ or exc.orig)) is not None:
            return found
    return _found(exc) or _DEFECT


def _found(exc: BaseException) -> Meaning | None:
    """Return what the tables say."""
    for cls in type(exc).__mro__:
        if cls in _BY_CLASS:
            return _BY_CLASS[cls]
    code = getattr(exc, "sqlstate", None)
    if isinstance(code, str):
        return _BY_CODE.get(code) or _BY_CODE_CLASS.get(code[:2], _DEFECT)
    if isinstance(exc, OSError) and exc.errno in _NETWORK_ERRNO:
        return _UNAVAILABLE
    return None


def is_unavailable(exc: BaseException) -> bool:
    """Return whether `exc` means that the database cannot answer now, so that trying again later may work."""
    return meaning_of(exc) in (_UNAVAILABLE, _REFUSED)


def is_refused(exc: BaseException) -> bool:
    """Return whether `exc` means that the server turns this client away until an operator changes something."""
    return meaning_of(exc) is _REFUSED


def is_data_error(exc: BaseException) -> bool:
    """Return whether `exc` was caused by the values of a statement, so that other values may pass."""
    return meaning_of(exc) in (_DATA, _FULL)


def is_full(exc: BaseException) -> bool:
    """Return whether `exc` means that a number of the database has no next one."""
    return meaning_of(exc) is _FULL


def is_too_long(exc: BaseException) -> bool:
    """Return whether `exc` means that the server ended a statement, which it does after the statement timeout."""
    return sqlstate(exc) == _QUERY_CANCELED


def sqlstate(exc: BaseException) -> str | None:
    """Return the five-character SQLSTATE of a driver error, or None when it has none."""
    if not isinstance(exc, DBAPIError):
        return None
    code: str | None = getattr(exc.orig, "sqlstate", None)
    return code


def constraint_name(exc: BaseException) -> str | None:
    """Return the name of the constraint that was violated, by a driver error, or None."""
    if not isinstance(exc, DBAPIError):
        return None
    cause = exc.orig.__cause__ if exc.orig is not None else None
    name: str | None = getattr(cause, "constraint_name", None)
    return name


def reason_of(exc: BaseException) -> str:
    """Return in one line why the database cannot be used, in the server's own words where there are any.

    No statement, no parameters, no row: what a server adds to its message as detail is left out.
    """
    innermost = list(_causes(exc))[-1]
    message = getattr(innermost, "message", None) if isinstance(innermost, asyncpg.PostgresError) else None
    if isinstance(innermost, TimeoutError) and not str(innermost):
        message = "no answer in time"
    lines = (message or str(innermost)).strip().splitlines()
    return lines[0] if lines else type(innermost).__name__


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it wraps, down to the driver's."""
    found: BaseException | None = exc
    while found is not None:
        yield found
        if isinstance(found, DBAPIError):
            found = found.orig.__cause__ or found.orig if found.orig is not None else None
        else:
            found = found.__cause__ if isinstance(found, DatabaseUnavailableError) else None
