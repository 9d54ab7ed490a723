"""The unit of work: one transaction, the counters it raises, the jobs it enqueues and the audit records of its changes.

    async with transactions.begin() as transaction:
        await repository.insert(transaction.connection, ...)
        transaction.count(OPENED, severity)
        transaction.enqueue(job)
        transaction.record(call, incident_id)

They are written just before the commit: counters in key order, so that two transactions cannot deadlock over them, then jobs,
and records last of all, since the chain that they are appended to is locked until the commit. The jobs are dispatched after
it. An exception in the block rolls all of it back.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from servicekit.audit import repository as audit
from servicekit.audit.chains import Chains
from servicekit.audit.model import Call, changed
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
        self._changes: list[tuple[Call, Sequence[str]]] = []

    def count(self, name: str, label: str = "", amount: int = 1) -> None:
        """Add `amount`, which may be negative, to a counter."""
        self._amounts[name, label] += amount

    def enqueue(self, *jobs: NewJob) -> None:
        """Enqueue jobs: at once in the hands of this process when its worker has room, otherwise for any process."""
        self._jobs += jobs

    def record(self, call: Call, *targets: str) -> None:
        """Append an audit record: `call` has changed what has these ids."""
        self._changes.append((call, targets))

    async def append_records(self, chain: int) -> None:
        """Append the records to a chain. It is locked until the commit: nothing may follow."""
        await audit.append(
            self.connection, chain, [changed(call, targets) for call, targets in self._changes]
        )

    @property
    def has_records(self) -> bool:
        """Whether there are records to append."""
        return bool(self._changes)

    def committed(self) -> None:
        """Mark the calls as recorded."""
        for call, _ in self._changes:
            call.recorded = True

    async def flush(self, outbox: Outbox, shard: int) -> frozenset[str]:
        """Write what was counted and enqueued. Returns the topics whose jobs were inserted leased: those with room.

        A topic at its limit, as when a receiver hangs, costs the others nothing.
        """
        amounts = {key: amount for key, amount in self._amounts.items() if amount}
        if amounts:
            await raise_counters(self.connection, amounts, shard=shard)
        if not self._jobs:
            return frozenset()
        leased = outbox.topics_with_room(Counter(job.topic for job in self._jobs))
        self.enqueued = await queue.enqueue(self.connection, self._jobs, lease=outbox.lease, leased=leased)
        return leased


class Transactions:
    """Opens units of work and reads on one database."""

    def __init__(self, engine: AsyncEngine, outbox: Outbox, *, sessions: AsyncEngine | None = None) -> None:
        """`sessions`: the engine whose connections have a session of their own, when that of `engine` is a pooler's."""
        self.engine = engine
        self.sessions = sessions or engine
        self.outbox = outbox
        self.chains = Chains()
        self._one_statement = autocommit(engine)
        self._repeatable_read = engine.execution_options(isolation_level="REPEATABLE READ")
        # The shard of each counter that this process writes to.
        self._shard = choose_shard()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        """Open a unit of work; it commits when the block ends without an exception."""
        with ExitStack() as held:
            async with self.engine.begin() as connection:
                transaction = Transaction(connection)
                yield transaction
                leased = await transaction.flush(self.outbox, self._shard)
                if transaction.has_records:
                    await transaction.append_records(held.enter_context(self.chains.take()))
        transaction.committed()
        if mine := [job for job in transaction.enqueued if job.topic in leased]:
            self.outbox.dispatch(mine)
        if len(mine) < len(transaction.enqueued):
            self.outbox.wake()

    def statement(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Return a connection on which each statement is a transaction of its own: one round trip in place of three."""
        return self._one_statement.connect()

    def session(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Return a connection like `statement`, with a session of its own: it may listen and keep a lock."""
        return autocommit(self.sessions).connect()

    def snapshot(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Return a connection whose statements all read the same snapshot of the database."""
        return self._repeatable_read.begin()
