"""Reading the stats of a service as of one snapshot of its database."""

import asyncio
from collections.abc import Awaitable
from typing import Generic, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from servicekit.database.shared_read import SharedRead
from servicekit.outbox.transaction import Transactions

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class ReadStats(Protocol[T_co]):
    """A service's statements, which see one snapshot."""

    def __call__(self, connection: AsyncConnection, *, with_details: bool) -> Awaitable[T_co]:
        """Return the stats, with the lists for a person when `with_details`."""
        ...


class StatsUseCase(Generic[T]):
    """Reads the stats of one database, on one connection at a time, however many callers there are."""

    def __init__(self, reads: Transactions, read_stats: ReadStats[T]) -> None:
        self._reads = reads
        self._read_stats = read_stats
        self._turn = asyncio.Lock()
        self._basic = SharedRead(lambda: self._read(with_details=False))
        self._full = SharedRead(lambda: self._read(with_details=True))

    async def read(self, *, with_details: bool) -> T:
        """Return the stats, with the lists for a person when `with_details`; those before when reading them is slow."""
        return await (self._full if with_details else self._basic).get()

    async def _read(self, *, with_details: bool) -> T:
        async with self._turn, self._reads.snapshot() as connection:
            return await self._read_stats(connection, with_details=with_details)
