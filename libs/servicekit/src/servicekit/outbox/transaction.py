"""The unit of work: one transaction, the counters it raises and the jobs it enqueues.

    async with transactions.begin() as transaction:
        await repository.insert(transaction.connection, ...)
        transaction.count(OPENED, severity)
        transaction.enqueue(job)

Counters and jobs are written just before the commit, counters in key order, so that two transactions cannot deadlock over
them; the jobs are dispatched after it. An exception in the block rolls all of it back.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from servicekit.database.counters import choose_shard, raise_counters
from servicekit.database.engine import autocommit
from servicekit.outbox import queue
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.queue import Job, NewJob


class Transaction:
    """An open transaction. Statements go through `connection`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        # The jobs that were new, once the block has ended: a dedup key that is taken is not enqueued again.
        self.enqueued: Sequence[Job] = ()
        self._amounts: Counter[tuple[str, str]] = Counter()
        self._jobs: list[NewJob] = []

    def count(self, name: str, label: str = "", amount: int = 1) -> None:
        """Add `amount`, which may be negative, to a counter."""
        self._amounts[name, label] += amount

    def enqueue(self, *jobs: NewJob) -> None:
        """Enqueue jobs: at once in the hands of this process when its worker has room, otherwise for any process."""
        self._jobs += jobs

    async def flush(self, outbox: Outbox, shard: int) -> bool:
        """Write what was counted and enqueued. Returns whether the jobs were inserted leased."""
        amounts = {key: amount for key, amount in self._amounts.items() if amount}
        if amounts:
            await raise_counters(self.connection, amounts, shard=shard)
        if not self._jobs:
            return False
        lease = outbox.lease_for(Counter(job.topic for job in self._jobs))
        self.enqueued = await queue.enqueue(self.connection, self._jobs, lease=lease)
        return lease is not None


class Transactions:
    """Opens units of work and reads on one database."""

    def __init__(self, engine: AsyncEngine, outbox: Outbox) -> None:
        self.engine = engine
        self.outbox = outbox
        self._one_statement = autocommit(engine)
        self._repeatable_read = engine.execution_options(isolation_level="REPEATABLE READ")
        # The shard of each counter that this process writes to.
        self._shard = choose_shard()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        """Open a unit of work; it commits when the block ends without an exception."""
        async with self.engine.begin() as connection:
            transaction = Transaction(connection)
            yield transaction
            leased = await transaction.flush(self.outbox, self._shard)
        if leased:
            self.outbox.dispatch(transaction.enqueued)
        elif transaction.enqueued:
            self.outbox.wake()

    def statement(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Return a connection on which each statement is a transaction of its own: one round trip in place of three."""
        return self._one_statement.connect()

    def snapshot(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Return a connection whose statements all read the same snapshot of the database."""
        return self._repeatable_read.begin()
