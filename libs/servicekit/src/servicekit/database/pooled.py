"""Connections to a pooler that lends a server's connection for one transaction, such as PgBouncer with `pool_mode = transaction`.

The next transaction of a connection may run in another session, and this one's may serve another client by then. So nothing is
left in a session and nothing is expected of it:

- what a session's connection gets as startup parameters, which such a pooler refuses, is set in each transaction: by the message
  that begins it, which costs no round trip;
- a statement outside a transaction gets one of its own, or it would have no bound: two round trips more;
- no statement is prepared under a name. The driver's unnamed one is sent again with each execution, in the same round trip.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from asyncpg import InterfaceError
from asyncpg.prepared_stmt import PreparedStatement

from servicekit.database.connection import KeptConnection


class PooledConnection(KeptConnection):
    """A driver's connection to a pooler. It has to be opened with `statement_cache_size=0`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._settings = ""
        # A transaction of its own has begun for a statement and its end was not answered.
        self._unsettled = False

    def set_in_each_transaction(self, settings: Mapping[str, str]) -> None:
        """Use these settings of PostgreSQL from now on."""
        self._settings = "".join(
            f" SET LOCAL {name} = '{value.replace(chr(39), 2 * chr(39))}';"
            for name, value in settings.items()
        )

    @property
    def is_reusable(self) -> bool:
        """Whether the connection can be used again after a cancellation."""
        return super().is_reusable and not self._unsettled

    async def execute(self, query: str, *arguments: Any, **options: Any) -> Any:
        """Execute a statement. One that begins a transaction takes the settings with it, in one message."""
        begins = query.startswith("BEGIN")
        status = await super().execute(f"{query}{self._settings}" if begins else query, *arguments, **options)
        self._served()
        return status

    async def prepare(self, *arguments: Any, **options: Any) -> Any:
        """Return a statement that is unnamed at the server and can be executed again in any session."""
        async with self.in_transaction():
            statement = await super().prepare(*arguments, **options)
        return _Statement(self, statement.get_query(), statement._state)  # noqa: SLF001 - it is nowhere else

    async def executemany(self, *arguments: Any, **options: Any) -> Any:
        """Execute a statement once for each row of arguments."""
        async with self.in_transaction():
            return await super().executemany(*arguments, **options)

    @asynccontextmanager
    async def in_transaction(self) -> AsyncIterator[None]:
        """Run the block in the transaction that is open, else in one of its own."""
        if self.is_closed():
            raise InterfaceError("the connection is closed")
        if self.is_in_transaction():
            yield
            self._served()
            return
        self._unsettled = True
        transaction = self.transaction()
        await transaction.start()
        try:
            yield
        except TimeoutError:
            # A connection that is silent gets no further question.
            raise
        except BaseException:
            await transaction.rollback()
            self._unsettled = False
            raise
        await transaction.commit()
        self._unsettled = False

    def _served(self) -> None:
        self.served_time = asyncio.get_running_loop().time()


class _Statement(PreparedStatement):
    """A prepared statement that is executed in a transaction."""

    __slots__ = ()

    async def fetch(self, *arguments: Any, **options: Any) -> Any:
        """Execute the statement and return its rows."""
        connection: PooledConnection = self._connection  # type: ignore[attr-defined]  # unknown to the stubs
        async with connection.in_transaction():
            return await super().fetch(*arguments, **options)
