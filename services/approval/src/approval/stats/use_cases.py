"""Reading the stats as of one snapshot of the database."""

from approval.stats import repository
from approval.stats.model import ApprovalStats
from servicekit.outbox.transaction import Transactions


class StatsUseCase:
    """Reads the stats of one database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def read(self, *, with_details: bool) -> ApprovalStats:
        """Return the stats, with the lists for a person when `with_details`."""
        async with self._transactions.snapshot() as connection:
            return await repository.read_stats(connection, with_details=with_details)
