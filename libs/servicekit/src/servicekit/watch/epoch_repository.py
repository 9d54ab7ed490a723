"""The statements on the epoch: where the changes' transaction ids come from. Nothing here commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from servicekit.watch.change_table import ChangeTable
from servicekit.watch.model import Witness
from servicekit.watch.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Place:
    """Where transaction ids are assigned: a cluster, a database and its table of changes.

    A restored table has another oid, in the same cluster too. `system_identifier` is None where it may not be read.
    """

    system_identifier: int | None
    database_oid: int
    table_oid: int

    def differs_from(self, other: Self) -> bool:
        """Return whether the two are known to differ."""
        if (self.database_oid, self.table_oid) != (other.database_oid, other.table_oid):
            return True
        known = {self.system_identifier, other.system_identifier} - {None}
        return len(known) > 1


@dataclass(frozen=True, slots=True)
class StoredEpoch:
    """The epoch that is stored, with its place. With `foreign_from`, ids from that one on are still to be removed."""

    epoch: str
    place: Place
    foreign_from: int | None


@dataclass(frozen=True, slots=True)
class Present:
    """The present snapshot and its latest change; the place; whether an id was not assigned here; and what is stored."""

    snapshot: Snapshot
    witness: Witness | None
    place: Place
    has_foreign_ids: bool
    stored: StoredEpoch | None


@cache
def _read(table: ChangeTable) -> TextClause:
    # No change that is visible was written by a transaction after the snapshot: such an id is another cluster's.
    return text(f"""
        SELECT CAST(pg_current_snapshot() AS text), watch_system_identifier(), present.database_oid, present.table_oid,
            EXISTS (
                SELECT FROM {table.name}
                WHERE xact_id >= CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)),
            latest.key, latest.record_id, latest.time, stored.epoch, stored.system_identifier, stored.database_oid,
            stored.table_oid, stored.foreign_from
        FROM (
            SELECT CAST(oid AS bigint) AS database_oid,
                CAST(CAST('{table.name}' AS regclass) AS bigint) AS table_oid
            FROM pg_database WHERE datname = current_database()
        ) AS present LEFT JOIN watch_epoch AS stored ON TRUE LEFT JOIN (
            SELECT CAST({table.key} AS text) AS key, {table.record_id} AS record_id, {table.time} AS time
            FROM {table.name} ORDER BY xact_id DESC, sequence DESC LIMIT 1
        ) AS latest ON TRUE
    """)  # noqa: S608 - a service's constants


async def read(connection: AsyncConnection, table: ChangeTable) -> Present:
    """Return the present snapshot, its place, and the epoch that is stored."""
    row = (await connection.execute(_read(table))).one()
    snapshot, system_identifier, database_oid, table_oid, has_foreign_ids, *rest = row
    key, record_id, time, epoch, *stored_place, foreign_from = rest
    return Present(
        Snapshot.parse(snapshot),
        None if key is None else Witness(key, record_id, time),
        Place(system_identifier, database_oid, table_oid),
        has_foreign_ids,
        None if epoch is None else StoredEpoch(epoch, Place(*stored_place), foreign_from),
    )


_LOCK = text("LOCK TABLE watch_epoch IN SHARE ROW EXCLUSIVE MODE")


async def lock(connection: AsyncConnection) -> None:
    """Wait until no other transaction is at work on the epoch. Readers do not wait."""
    await connection.execute(_LOCK)


_STORE = text("""
    INSERT INTO watch_epoch (epoch, system_identifier, database_oid, table_oid, foreign_from)
    VALUES (:epoch, :system_identifier, :database_oid, :table_oid, :foreign_from)
    ON CONFLICT (is_only) DO UPDATE SET epoch = excluded.epoch, system_identifier = excluded.system_identifier,
        database_oid = excluded.database_oid, table_oid = excluded.table_oid, foreign_from = excluded.foreign_from
""")


async def store(connection: AsyncConnection, stored: StoredEpoch) -> None:
    """Store the epoch, its place, and how far it is."""
    await connection.execute(
        _STORE,
        {
            "epoch": stored.epoch,
            "system_identifier": stored.place.system_identifier,
            "database_oid": stored.place.database_oid,
            "table_oid": stored.place.table_oid,
            "foreign_from": stored.foreign_from,
        },
    )


@cache
def _forget_ids(table: ChangeTable) -> TextClause:
    # 0 is below every transaction id: visible in every snapshot.
    return text(f"""
        UPDATE {table.name} SET xact_id = 0
        FROM (
            SELECT {table.record_id}, {table.key} FROM {table.name} WHERE xact_id >= :foreign_from
            ORDER BY xact_id, sequence LIMIT :limit
        ) AS foreign_change
        WHERE {table.name}.{table.record_id} = foreign_change.{table.record_id}
            AND {table.name}.{table.key} = foreign_change.{table.key}
    """)  # noqa: S608 - a service's constants


async def forget_ids(
    connection: AsyncConnection, table: ChangeTable, foreign_from: int, *, limit: int
) -> int:
    """Make at most `limit` changes with an id from `foreign_from` on visible in every snapshot; return how many."""
    parameters = {"foreign_from": foreign_from, "limit": limit}
    return (await connection.execute(_forget_ids(table), parameters)).rowcount


def epoch_tables() -> Sequence[str]:
    """Return the statements of a migration that make what the epoch is stored in.

    Its one row is written by the first process that serves Watch: in a restored database the ids may be foreign already.
    """
    return (
        """
        CREATE TABLE watch_epoch (
            is_only boolean PRIMARY KEY DEFAULT TRUE,
            epoch text NOT NULL,
            system_identifier bigint,
            database_oid bigint NOT NULL,
            table_oid bigint NOT NULL,
            foreign_from bigint,
            CONSTRAINT watch_epoch_is_only CHECK (is_only)
        )
        """,
        # Some providers withhold the function: then the oids alone tell databases apart.
        """
        CREATE FUNCTION watch_system_identifier() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
        BEGIN
            RETURN (SELECT system_identifier FROM pg_catalog.pg_control_system());
        EXCEPTION
            WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN RETURN NULL;
        END $$
        """,
    )
