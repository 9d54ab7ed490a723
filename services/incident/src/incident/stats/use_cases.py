"""Reading the stats as of one snapshot of the database."""

from datetime import timedelta

from incident.stats import repository
from incident.stats.model import IncidentStats
from servicekit.outbox.transaction import Transactions


class StatsUseCase:
    """Reads the stats of one database."""

    def __init__(self, transactions: Transactions, *, stuck_after: timedelta) -> None:
        self._transactions = transactions
        self._stuck_after = stuck_after

    async def read(self, *, with_details: bool) -> IncidentStats:
        """Return the stats, with the lists for a person when `with_details`."""
        async with self._transactions.snapshot() as connection:
            return await repository.read_stats(
                connection, stuck_after=self._stuck_after, with_details=with_details
            )
