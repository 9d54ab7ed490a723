"""Removes the rows of targets that are not operated on any more: there is one for each that was operated on lately."""

from datetime import timedelta

from approval.execution import repository as execution_repository
from servicekit.outbox.transaction import Transactions

_IDLE = timedelta(days=1)
_BATCH = 1_000


async def remove_idle(transactions: Transactions) -> bool:
    """Remove a batch; returns whether there may be more."""
    async with transactions.statement() as connection:
        removed = await execution_repository.remove_idle_targets(connection, idle=_IDLE, limit=_BATCH)
    return removed == _BATCH
