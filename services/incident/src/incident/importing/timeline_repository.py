"""The statements that write the timeline entries of an import. Nothing here commits."""

from collections.abc import Callable

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from incident.model import PROGRESS_EVENTS
from servicekit.importing.staging import BATCH

# Entries that an earlier import wrote, and those of incidents that retention has removed since.
_DROP_WRITTEN = text("""
    DELETE FROM staged_events
    WHERE EXISTS (SELECT FROM incident_events WHERE incident_events.event_id = staged_events.event_id)
        OR NOT EXISTS (SELECT FROM incidents WHERE incidents.incident_id = staged_events.incident_id)
""")
# So that the order of each timeline is the order of commits, and no incident is resolved meanwhile. In id order, as every
# statement that locks several, so that two cannot deadlock.
_LOCK = text("""
    SELECT count(*) FROM (
        SELECT FROM incidents WHERE incident_id IN (SELECT incident_id FROM staged_events)
        ORDER BY incident_id FOR NO KEY UPDATE
    ) AS locked
""")
_COUNT = text("SELECT count(*) FROM staged_events")
_ANALYZE = text("ANALYZE staged_events")
_UNTIL = text("""
    SELECT max(incident_id) FROM (
        SELECT incident_id FROM staged_events WHERE incident_id > :after ORDER BY incident_id LIMIT :limit
    ) AS batch
""")
# A timeline begins with OPENED, even if the clocks of the previous system disagree, and ends with the note on the import.
_INSERT = text("""
    INSERT INTO incident_events
        (event_id, incident_id, type, actor, event_time, summary, attributes, resolution_number)
    SELECT event_id, incident_id, type, actor, coalesce(event_time, now()), summary, attributes,
        coalesce(staged_events.resolution_number,
            incidents.resolution_number - coalesce((event_time <= resolve_time)::integer, 0))
    FROM staged_events JOIN incidents USING (incident_id)
    WHERE incident_id > :after AND incident_id <= :until
    ORDER BY incident_id, type <> 'OPENED', event_time NULLS LAST, rank
""")
# For incidents that were there before; those of this import are inserted with it.
_PROGRESS = text("""
    UPDATE incidents SET
        last_progress_time = progress.latest, update_time = greatest(update_time, progress.latest), version = least(version, 9223372036854775806) + 1
    FROM (
        SELECT incident_id, max(event_time) AS latest FROM staged_events WHERE type = ANY (:progress) GROUP BY incident_id
    ) AS progress
    WHERE incidents.incident_id = progress.incident_id AND state <> 'RESOLVED' AND last_progress_time < progress.latest
""").bindparams(bindparam("progress", type_=ARRAY(Text)))


async def insert_events(connection: AsyncConnection, progress: Callable[[int, int], None]) -> int:
    """Write the entries that are not written yet, each timeline in its order of events; returns their number."""
    await connection.execute(_DROP_WRITTEN)
    await connection.execute(_ANALYZE)
    await connection.execute(_LOCK)
    await connection.execute(_PROGRESS, {"progress": list(PROGRESS_EVENTS)})
    total: int = (await connection.execute(_COUNT)).scalar_one()
    done, after = 0, ""
    while done < total:
        until = await connection.scalar(_UNTIL, {"after": after, "limit": BATCH})
        done += (await connection.execute(_INSERT, {"after": after, "until": until})).rowcount
        progress(done, total)
        after = until
    return total
