"""The statements on the epoch: where the events' transaction ids come from. Nothing here commits."""

from dataclasses import dataclass
from typing import Self

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from incident.watch.model import Snapshot, Witness


@dataclass(frozen=True, slots=True)
class Place:
    """Where transaction ids are assigned: a cluster, a database and its table of events.

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
    """The present snapshot and its latest event; the place; whether an id was not assigned here; and what is stored."""

    snapshot: Snapshot
    witness: Witness | None
    place: Place
    has_foreign_ids: bool
    stored: StoredEpoch | None


# No event that is visible was written by a transaction after the snapshot: such an id is another cluster's.
_READ = text("""
    SELECT CAST(pg_current_snapshot() AS text), watch_system_identifier(), present.database_oid, present.table_oid,
        EXISTS (
            SELECT FROM incident_events
            WHERE xact_id >= CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)),
        latest.event_id, latest.incident_id, latest.event_time, stored.epoch, stored.system_identifier, stored.database_oid, stored.table_oid, stored.foreign_from
    FROM (
        SELECT CAST(oid AS bigint) AS database_oid,
            CAST(CAST('incident_events' AS regclass) AS bigint) AS table_oid
        FROM pg_database WHERE datname = current_database()
    ) AS present LEFT JOIN watch_epoch AS stored ON TRUE LEFT JOIN (
        SELECT event_id, incident_id, event_time FROM incident_events ORDER BY xact_id DESC, sequence DESC LIMIT 1
    ) AS latest ON TRUE
""")


async def read(connection: AsyncConnection) -> Present:
    """Return the present snapshot, its place, and the epoch that is stored."""
    row = (await connection.execute(_READ)).one()
    snapshot, system_identifier, database_oid, table_oid, has_foreign_ids, *rest = row
    event_id, incident_id, event_time, epoch, *stored_place, foreign_from = rest
    return Present(
        Snapshot.parse(snapshot),
        None if event_id is None else Witness(event_id, incident_id, event_time),
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


# 0 is below every transaction id: visible in every snapshot.
_FORGET_IDS = text("""
    UPDATE incident_events SET xact_id = 0
    FROM (
        SELECT event_id FROM incident_events WHERE xact_id >= :foreign_from ORDER BY xact_id, sequence LIMIT :limit
    ) AS foreign_event
    WHERE incident_events.event_id = foreign_event.event_id
""")


async def forget_ids(connection: AsyncConnection, foreign_from: int, *, limit: int) -> int:
    """Make at most `limit` events with an id from `foreign_from` on visible in every snapshot; return how many."""
    parameters = {"foreign_from": foreign_from, "limit": limit}
    return (await connection.execute(_FORGET_IDS, parameters)).rowcount
