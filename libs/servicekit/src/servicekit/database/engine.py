"""The engine: connections to one database as the services use them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from sqlalchemy import PoolResetState, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from servicekit.database.connection import SERVER_SETTINGS, Connection, KeptConnection, Peers
from servicekit.database.errors import CONNECT_ERRORS, DatabaseUnavailableError
from servicekit.database.pooled import PooledConnection

# How long one statement of a service may take. A caller's deadline is about as long, and a vanished host is noticed this
# late.
STATEMENT_TIMEOUT_SECONDS = 6.0
# How much longer the client waits for the server's word that it gave up on a statement.
_ANSWER_SECONDS = 1.0
_CLOSE_SECONDS = 2.0
# Those of the driver's own calls: SQLAlchemy keeps the others.
_DRIVERS_STATEMENTS = 100


def create_engine(
    url: str,
    *,
    application_name: str,
    pool_size: int = 10,
    pool_timeout_seconds: float = 5.0,
    connect_timeout_seconds: float = 5.0,
    statement_timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS,
    cancel_after_seconds: float = 0.1,
    pooled: bool = False,
    check: Callable[[Connection], Awaitable[None]] | None = None,
) -> AsyncEngine:
    """Make an engine for `url`, a libpq URL (unix sockets and several hosts included).

    The URL goes to asyncpg as it is: it knows multi-host URLs and `target_session_attrs`, which SQLAlchemy's own
    URL does not. No connection is opened here. Connecting fails with DatabaseUnavailableError; waiting longer than
    `pool_timeout_seconds` for a free connection fails with SQLAlchemy's TimeoutError. A statement that the server does
    not answer a little after `statement_timeout_seconds` (0: neither has a bound) fails with DatabaseUnavailableError,
    and the engine's connections are replaced. A statement whose caller has hung up is cancelled after
    `cancel_after_seconds`, and its connection stays in the pool. `check` may refuse a new connection by raising an error.
    `pooled`: the URL leads to a pooler that lends a session for one transaction (see pooled.py).
    """
    peers = Peers()
    client_timeout = statement_timeout_seconds + _ANSWER_SECONDS if statement_timeout_seconds else None
    settings = {
        "application_name": application_name,
        "statement_timeout": str(int(statement_timeout_seconds * 1000)),
        # Times are compared and shown in UTC not in the server's own zone.
        "timezone": "UTC",
        # The statements here are short and many: compiling one would cost more than running it.
        "jit": "off",
        # Nor is each worth a plan of its own: the arrays of a group commit differ in length at every call, and
        # planning it takes longer than running it. A plan that was made while a table was small must not scan it later:
        # every statement on a large table has its index.
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        # Nor may one that stops at its limit first collect and sort all that an index has for it. (Where there is no other
        # way, as in a search, a bitmap is used all the same.)
        "enable_bitmapscan": "off",
    }

    async def connect(*_args: object, **_kwargs: object) -> KeptConnection:
        try:
            connection: KeptConnection = await asyncpg.connect(
                url,
                timeout=connect_timeout_seconds,
                command_timeout=client_timeout,
                server_settings=None if pooled else settings | SERVER_SETTINGS,
                statement_cache_size=0 if pooled else _DRIVERS_STATEMENTS,
                connection_class=PooledConnection if pooled else KeptConnection,
            )
            # To isinstance() every connection of the driver is of each of its classes.
            if type(connection) is PooledConnection:
                connection.set_in_each_transaction(settings)
            if check is not None:
                await _checked(connection, check, timeout_seconds=connect_timeout_seconds)
        except CONNECT_ERRORS as exc:
            raise DatabaseUnavailableError from exc
        except ValueError:
            # Its text quotes parts of the URL.
            raise DatabaseUnavailableError("the URL cannot be used") from None
        connection.cancel_after_seconds = cancel_after_seconds
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
        if isinstance(context.original_exception, asyncio.CancelledError):
            context.is_disconnect = not _is_kept(context)
            return None
        if not isinstance(context.original_exception, TimeoutError):
            return None
        # The driver's bound: the server has not answered, not even that it gave up on the statement.
        context.is_disconnect = True
        # Behind a pooler a transaction may only have waited too long for its turn, while others have had theirs.
        context.invalidate_pool_on_disconnect = not peers.is_served_within(client_timeout or 0.0)
        if context.invalidate_pool_on_disconnect:
            peers.terminate()
        return DatabaseUnavailableError("the connection is silent")

    event.listen(engine.sync_engine, "handle_error", on_error)
    event.listen(engine.sync_engine, "reset", _wait_until_answered)
    return engine


def _is_kept(cancelled: ExceptionContext) -> bool:
    """Tell whether the connection can be used again after its statement was cancelled.

    Not when that was the beginning or the end of a transaction: the driver no longer knows whether it is in one.
    """
    if cancelled.statement is None or cancelled.connection is None:
        return False
    connection: Any = cancelled.connection.connection.dbapi_connection
    has_begun = connection.autocommit or connection._transaction is not None  # noqa: SLF001 - it is nowhere else
    return bool(has_begun and connection.driver_connection.is_reusable)


def _wait_until_answered(connection: Any, _record: object, state: PoolResetState) -> None:
    """Before a connection goes back into the pool, wait for what is left of a statement that was cancelled."""
    if state.asyncio_safe and not state.terminate_only:
        connection.run_async(KeptConnection.answered)


async def _checked(
    connection: Connection, check: Callable[[Connection], Awaitable[None]], *, timeout_seconds: float
) -> None:
    try:
        async with asyncio.timeout(timeout_seconds):
            await check(connection)
    except BaseException:
        connection.terminate()
        raise


async def close_engine(engine: AsyncEngine) -> None:
    """Close the engine's connections. Bounded: a connection whose peer is gone is left to the system."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await engine.dispose()


def autocommit(engine: AsyncEngine) -> AsyncEngine:
    """Return a view of `engine` (same pool) for one-statement transactions.

    A single statement is a transaction by itself; without BEGIN and COMMIT it costs one round trip in place of three.
    """
    return engine.execution_options(isolation_level="AUTOCOMMIT")
