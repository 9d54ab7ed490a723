"""Retention: removes what ended long ago, in small batches with a pause between them, in one process at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import text

from servicekit.outbox.transaction import Transaction, Transactions
from servicekit.process.periodic import run_periodically

_log = structlog.get_logger()
# Rows that a batch removes, those that go with them apart: removal never holds up another call.
BATCH = 100
_PAUSE = timedelta(milliseconds=100)
_EVERY = timedelta(minutes=1)
# Released at the end of the transaction, also of a process that dies.
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('retention', 0))")


@dataclass(frozen=True, slots=True)
class Removal:
    """How many records a batch has removed, and whether there may be more."""

    removed: int
    has_more: bool


RemoveBatch = Callable[[Transaction], Awaitable[Removal]]


async def remove_batch(transactions: Transactions, remove: RemoveBatch) -> Removal:
    """Remove a batch in a transaction; nothing while another process is at it."""
    async with transactions.begin() as transaction:
        if not (await transaction.connection.execute(_TRY_LOCK)).scalar_one():
            return Removal(0, has_more=False)
        return await remove(transaction)


async def keep_removing(transactions: Transactions, remove: RemoveBatch | None, *, records: str) -> None:
    """Remove what has grown old enough, until cancelled; None keeps everything. `records` names what is removed in the log."""
    if remove is None:
        await asyncio.Event().wait()
        return
    removing = remove

    async def work() -> bool:
        removal = await remove_batch(transactions, removing)
        if removal.removed:
            _log.info(f"{records}_removed", **{records: removal.removed})
        return removal.has_more

    await run_periodically("retention", work, every=_EVERY, pause=_PAUSE)
