"""The epoch of positions: transaction ids are compared only with those of the same cluster.

Changes keep the id of the transaction that wrote them. Dump and restore, or a major upgrade, take the rows to a cluster
that assigns other ids: old changes would count as new ones, and a position would mean something else. So the place of the
ids is stored. When it is another one than the present, the ids that are left are made older than every position, and a
new epoch begins: tokens of the one before are refused.
"""

import asyncio
import secrets

import structlog

from servicekit.database.failure_log import FailureLog
from servicekit.outbox.transaction import Transactions
from servicekit.watch import epoch_repository
from servicekit.watch.change_table import ChangeTable
from servicekit.watch.epoch_repository import Present, StoredEpoch
from servicekit.watch.model import Position, ResumePoint

_log = structlog.get_logger()
# Changes of one transaction of a repair. It must be done within the timeout of a statement.
_BATCH = 1000
_RETRY_SECONDS = 1.0
# The first epoch of a database, and that of tokens of versions without epochs.
FIRST_EPOCH = ""


class Epochs:
    """The present epoch. Begins another one when the database was restored or moved."""

    def __init__(self, transactions: Transactions, table: ChangeTable, *, batch: int = _BATCH) -> None:
        """Repair `batch` changes in a transaction."""
        self._transactions = transactions
        self._table = table
        self._batch = batch
        # One repair a process: watchers that wait for it take no connections.
        self._repairing = asyncio.Lock()

    async def prepare(self) -> None:
        """Return when the database is reached and its ids are those of its cluster."""
        failures = FailureLog("watch_epoch_unavailable")
        while True:
            try:
                await self.now()
            except Exception as exc:
                failures.failed(exc)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def now(self) -> ResumePoint:
        """Return the position of a statement that begins now; after a repair if one is due."""
        present = await self._read()
        if not _is_due(present):
            return _point(present)
        async with self._repairing:
            while not await self._repair():
                pass
        return _point(await self._read())

    async def _read(self) -> Present:
        async with self._transactions.statement() as connection:
            return await epoch_repository.read(connection, self._table)

    async def _repair(self) -> bool:
        """Do a batch, unless another process has done all; return whether nothing is left to do.

        A process that dies leaves the rest to the next one: what is due is in the database.
        """
        async with self._transactions.begin() as transaction:
            connection = transaction.connection
            await epoch_repository.lock(connection)
            present = await epoch_repository.read(connection, self._table)
            if not _is_due(present):
                return True
            due = _begun(present)
            repaired = 0
            if due.foreign_from is not None:
                repaired = await epoch_repository.forget_ids(
                    connection, self._table, due.foreign_from, limit=self._batch
                )
            is_done = repaired < self._batch
            await epoch_repository.store(
                connection, StoredEpoch(due.epoch, due.place, None if is_done else due.foreign_from)
            )
        if due.foreign_from is not None:
            _log.warning("watch_epoch_repaired", events=repaired, done=is_done)
        return is_done


def _is_due(present: Present) -> bool:
    stored = present.stored
    return (
        stored is None
        or stored.foreign_from is not None
        or present.has_foreign_ids
        or _begun(present) != stored
    )


def _begun(present: Present) -> StoredEpoch:
    """Return the epoch to store: the stored one as long as its place is the present one."""
    stored = present.stored
    place = present.place
    is_moved = stored is not None and stored.place.differs_from(place)
    is_repairing = stored is not None and stored.foreign_from is not None
    if is_moved or (present.has_foreign_ids and not is_repairing):
        # Ids from here on may be in progress in a snapshot that is yet to come.
        return StoredEpoch(secrets.token_hex(8), place, present.snapshot.xmin)
    if stored is None:
        return StoredEpoch(FIRST_EPOCH, place, None)
    if place.system_identifier is None:
        place = stored.place
    return StoredEpoch(stored.epoch, place, stored.foreign_from)


def _point(present: Present) -> ResumePoint:
    if present.stored is None:
        raise RuntimeError("a repair stores the epoch")
    return ResumePoint(Position.at(present.snapshot), present.stored.epoch, present.witness)
