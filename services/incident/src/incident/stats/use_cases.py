"""Reading the stats as of one snapshot of the database."""

import asyncio
from datetime import timedelta

from incident.stats import repository
from incident.stats.model import IncidentStats
from servicekit.database.shared_read import SharedRead
from servicekit.outbox.transaction import Transactions


class StatsUseCase:
    """Reads the stats of one database, on one connection at a time, however many callers there are."""

    def __init__(self, reads: Transactions, *, stuck_after: timedelta) -> None:
        self._reads = reads
        self._stuck_after = stuck_after
        self._turn = asyncio.Lock()
        self._basic = SharedRead(lambda: self._read(with_details=False))
        self._full = SharedRead(lambda: self._read(with_details=True))

    async def read(self, *, with_details: bool) -> IncidentStats:
        """Return the stats, with the lists for a person when `with_details`; those before when reading them is slow."""
        return await (self._full if with_details else self._basic).get()

    async def _read(self, *, with_details: bool) -> IncidentStats:
        async with self._turn, self._reads.snapshot() as connection:
            return await repository.read_stats(
                connection, stuck_after=self._stuck_after, with_details=with_details
            )
