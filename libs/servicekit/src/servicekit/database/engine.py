"""The engine, and the classification of its errors: unavailable, data, constraint."""

import asyncio
import contextlib

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from servicekit.database.connection import SERVER_SETTINGS, KeptAliveConnection, Peers

# SQLSTATE classes and codes that say "the server cannot serve any statement now":
# connection exceptions, shutting down / starting up, out of disk, memory or connections, read-only standby,
# and a statement or lock that was given up on.
_UNAVAILABLE_CLASSES = ("08", "53", "58")
_UNAVAILABLE_CODES = frozenset({"57P01", "57P02", "57P03", "57014", "55P03", "25006", "40001", "40P01"})
# A table or column that is not there: the process is newer than the schema and migration has yet to run.
_NOT_MIGRATED_CODES = frozenset({"42P01", "42703"})
_DATA_CLASSES = ("22", "23")


# How long one statement of a service may take. A caller's patience is about as long, and a vanished host is noticed this
# late.
STATEMENT_TIMEOUT_SECONDS = 6.0
# How much longer the client waits for the server's word that it gave up on a statement.
_ANSWER_SECONDS = 1.0
_CLOSE_SECONDS = 2.0


class DatabaseUnavailableError(Exception):
    """The database cannot be reached."""


def create_engine(
    url: str,
    *,
    application_name: str,
    pool_size: int = 10,
    pool_timeout_seconds: float = 5.0,
    connect_timeout_seconds: float = 5.0,
    statement_timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS,
) -> AsyncEngine:
    """Make an engine for `url`, a libpq URL (unix sockets and several hosts included).

    The URL goes to asyncpg as it is: it knows multi-host URLs and `target_session_attrs`, which SQLAlchemy's own
    URL does not. No connection is opened here. Connecting fails with DatabaseUnavailableError; waiting longer than
    `pool_timeout_seconds` for a free connection fails with SQLAlchemy's TimeoutError. A statement that the server does
    not answer a little after `statement_timeout_seconds` (0: neither has a bound) fails with DatabaseUnavailableError,
    and the engine's connections are replaced.
    """
    peers = Peers()
    client_timeout = statement_timeout_seconds + _ANSWER_SECONDS if statement_timeout_seconds else None
    server_settings = {
        "application_name": application_name,
        "statement_timeout": str(int(statement_timeout_seconds * 1000)),
        # Times are compared and shown in UTC not in the server's own zone.
        "timezone": "UTC",
        **SERVER_SETTINGS,
        # The statements here are short and many: compiling one would cost more than running it.
        "jit": "off",
        # Nor is each worth a plan of its own: the arrays of a group commit differ in length at every call, and
        # planning it takes longer than running it. A plan that was made while a table was small must not scan it later:
        # every statement on a large table has its index.
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
    }

    async def connect(*_args: object, **_kwargs: object) -> "asyncpg.Connection[asyncpg.Record]":
        try:
            connection = await asyncpg.connect(
                url,
                timeout=connect_timeout_seconds,
                command_timeout=client_timeout,
                server_settings=server_settings,
                connection_class=KeptAliveConnection,
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
            raise DatabaseUnavailableError from exc
        peers.add(connection)
        return connection

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout_seconds,
        # A connection that died while idle is found by its first statement, which fails as UNAVAILABLE and
        # empties the pool. A ping before each statement would cost every call a round trip.
        pool_pre_ping=False,
    )

    def on_error(context: ExceptionContext) -> DatabaseUnavailableError | None:
        if not isinstance(context.original_exception, TimeoutError):
            return None
        # The driver's bound: the server has not answered, not even that it gave up on the statement.
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = True
        peers.terminate()
        return DatabaseUnavailableError("the connection is silent")

    event.listen(engine.sync_engine, "handle_error", on_error)
    return engine


async def close_engine(engine: AsyncEngine) -> None:
    """Close the engine's connections. Bounded: a connection whose peer is gone is left to the system."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await engine.dispose()


def is_unavailable(exc: BaseException) -> bool:
    """Tell whether `exc` means that the database cannot answer now, so that trying again later may work."""
    if isinstance(exc, DatabaseUnavailableError | InterfaceError | PoolTimeoutError | ConnectionError):
        return True
    if not isinstance(exc, DBAPIError):
        return False
    if exc.connection_invalidated:
        return True
    code = sqlstate(exc)
    if code is None:
        return isinstance(exc, OperationalError)
    return code.startswith(_UNAVAILABLE_CLASSES) or code in _UNAVAILABLE_CODES or code in _NOT_MIGRATED_CODES


def is_data_error(exc: BaseException) -> bool:
    """Tell whether `exc` was caused by the values of a statement, so that other values may pass."""
    code = sqlstate(exc)
    return code is not None and code.startswith(_DATA_CLASSES)


def sqlstate(exc: BaseException) -> str | None:
    """Return the five-character SQLSTATE of a driver error, or None when it has none."""
    if not isinstance(exc, DBAPIError):
        return None
    code: str | None = getattr(exc.orig, "sqlstate", None)
    return code


def constraint_name(exc: BaseException) -> str | None:
    """Return the name of the constraint that a driver error says was violated, or None."""
    if not isinstance(exc, DBAPIError):
        return None
    cause = exc.orig.__cause__ if exc.orig is not None else None
    name: str | None = getattr(cause, "constraint_name", None)
    return name


def autocommit(engine: AsyncEngine) -> AsyncEngine:
    """Return a view of `engine` (same pool) for one-statement transactions.

    A single statement is a transaction by itself; without BEGIN and COMMIT it costs one round trip in place of three.
    """
    return engine.execution_options(isolation_level="AUTOCOMMIT")
