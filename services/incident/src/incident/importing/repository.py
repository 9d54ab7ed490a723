"""The statements of an import of incidents: staging, conflicts, inserts. Nothing here commits."""

from collections.abc import AsyncIterator, Mapping, Sequence

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger, Boolean, DateTime, Integer, Text

from incident.importing.timeline_lines import ImportedEvent
from incident.lifecycle.effect_jobs import PAYLOAD_SQL, EffectPayload, dedup_key_sql
from incident.model import PROGRESS_EVENTS, Effect, ResolutionType
from servicekit.importing.lines import Problem
from servicekit.outbox.sql import insert_ended_jobs

_CREATE = (
    # The approvals by their incidents.
    text("""
    CREATE TEMPORARY TABLE staged_approvals (
        file integer NOT NULL,
        line bigint NOT NULL,
        incident_id text NOT NULL,
        is_acknowledged boolean NOT NULL
    ) ON COMMIT DROP
    """),
    # The incidents of all lines, invalid ones included: their approvals are no problem of their own.
    text("CREATE TEMPORARY TABLE named_incidents (incident_id text NOT NULL) ON COMMIT DROP"),
    text("""
    CREATE TEMPORARY TABLE staged_events (
        event_id text NOT NULL,
        incident_id text NOT NULL,
        type text NOT NULL,
        actor text NOT NULL,
        event_time timestamptz,
        rank integer NOT NULL,
        summary text NOT NULL,
        attributes jsonb NOT NULL,
        resolution_number integer
    ) ON COMMIT DROP
    """),
    text("CREATE INDEX ON staged_events (incident_id)"),
)


async def create(connection: AsyncConnection) -> None:
    """Create the temporary tables of the caller's transaction, beside those that every import has."""
    for statement in _CREATE:
        await connection.execute(statement)


_STAGE_APPROVALS = text("""
    INSERT INTO staged_approvals SELECT * FROM unnest(:files, :lines, :incident_ids, :acknowledged)
""").bindparams(
    bindparam("files", type_=ARRAY(Integer)),
    bindparam("lines", type_=ARRAY(BigInteger)),
    bindparam("incident_ids", type_=ARRAY(Text)),
    bindparam("acknowledged", type_=ARRAY(Boolean)),
)


async def stage_approvals(
    connection: AsyncConnection, approvals: Sequence[tuple[int, int, str, bool]]
) -> None:
    """Stage each approval's file, line and incident, and whether the incident acknowledged its execution."""
    if approvals:
        files, lines, incident_ids, acknowledged = zip(*approvals, strict=True)
        await connection.execute(
            _STAGE_APPROVALS,
            {
                "files": list(files),
                "lines": list(lines),
                "incident_ids": list(incident_ids),
                "acknowledged": list(acknowledged),
            },
        )


_NAME = text("INSERT INTO named_incidents SELECT * FROM unnest(:incident_ids)").bindparams(
    bindparam("incident_ids", type_=ARRAY(Text))
)


async def name_incidents(connection: AsyncConnection, incident_ids: Sequence[str]) -> None:
    """Stage the ids of incidents that have a line, valid or not."""
    if incident_ids:
        await connection.execute(_NAME, {"incident_ids": list(incident_ids)})


_STAGE_EVENTS = text("""
    INSERT INTO staged_events
    SELECT * FROM unnest(:event_ids, :incident_ids, :types, :actors, :times, :ranks, :summaries, :attributes, :numbers)
""").bindparams(
    bindparam("event_ids", type_=ARRAY(Text)),
    bindparam("incident_ids", type_=ARRAY(Text)),
    bindparam("types", type_=ARRAY(Text)),
    bindparam("actors", type_=ARRAY(Text)),
    bindparam("times", type_=ARRAY(DateTime(timezone=True))),
    bindparam("ranks", type_=ARRAY(Integer)),
    bindparam("summaries", type_=ARRAY(Text)),
    bindparam("attributes", type_=ARRAY(JSONB)),
    bindparam("numbers", type_=ARRAY(Integer)),
)


async def stage_events(connection: AsyncConnection, events: Sequence[ImportedEvent]) -> None:
    """Stage timeline entries."""
    if events:
        await connection.execute(
            _STAGE_EVENTS,
            {
                "event_ids": [event.event_id for event in events],
                "incident_ids": [event.incident_id for event in events],
                "types": [event.type for event in events],
                "actors": [event.actor for event in events],
                "times": [event.event_time for event in events],
                "ranks": [event.rank for event in events],
                "summaries": [event.summary for event in events],
                "attributes": [dict(event.attributes) for event in events],
                "numbers": [event.resolution_number for event in events],
            },
        )


_ANALYZE = tuple(
    text(f"ANALYZE {table}") for table in ("staged_approvals", "named_incidents", "staged_events")
)
_TAKEN = text("""
    SELECT file, line FROM staged_rows JOIN incidents ON incidents.incident_id = row_id
    WHERE NOT EXISTS (SELECT FROM imported_rows WHERE imported_rows.row_id = staged_rows.row_id)
    ORDER BY file, line
""")
# At most one unresolved incident for each fingerprint, in the lines and in the database.
_SAME_FINGERPRINT = text("""
    SELECT file, line, first_file, first_line FROM (
        SELECT file, line, row_number() OVER same AS place, first_value(file) OVER same AS first_file,
            first_value(line) OVER same AS first_line
        FROM staged_rows
        WHERE body ->> 'state' <> 'RESOLVED' AND body ->> 'fingerprint' <> ''
            AND NOT EXISTS (SELECT FROM imported_rows WHERE imported_rows.row_id = staged_rows.row_id)
        WINDOW same AS (PARTITION BY body ->> 'fingerprint' ORDER BY position)
    ) AS numbered WHERE place > 1 ORDER BY file, line
""")
_FINGERPRINT_TAKEN = text("""
    SELECT file, line, incidents.incident_id FROM staged_rows
    JOIN incidents ON incidents.fingerprint = body ->> 'fingerprint'
    WHERE body ->> 'state' <> 'RESOLVED' AND incidents.state <> 'RESOLVED' AND incidents.fingerprint <> ''
        AND NOT EXISTS (SELECT FROM imported_rows WHERE imported_rows.row_id = staged_rows.row_id)
    ORDER BY file, line
""")
# An incident that was imported and removed by retention is known.
_UNKNOWN = text("""
    SELECT file, line FROM staged_approvals AS approval
    WHERE NOT EXISTS (SELECT FROM named_incidents WHERE named_incidents.incident_id = approval.incident_id)
        AND NOT EXISTS (SELECT FROM incidents WHERE incidents.incident_id = approval.incident_id)
        AND NOT EXISTS (SELECT FROM imported_rows WHERE row_id = approval.incident_id)
    ORDER BY file, line
""")
# Reconciliation would skip such an incident: its approval counts as acknowledged.
_NOT_RESOLVED = text("""
    SELECT approval.file, approval.line FROM staged_approvals AS approval
    JOIN staged_rows ON row_id = approval.incident_id
    WHERE is_acknowledged AND body ->> 'state' <> 'RESOLVED' ORDER BY approval.file, approval.line
""")


async def find_conflicts(connection: AsyncConnection, *, names: Sequence[str]) -> AsyncIterator[Problem]:
    """Yield the conflicts of lines with other lines or with rows of the database. `names` are those of the files."""
    for statement in _ANALYZE:
        await connection.execute(statement)
    for file, line in await connection.execute(_TAKEN):
        yield Problem(file, line, "incident_id", "there is an incident with this id that was not imported")
    for file, line, first_file, first_line in await connection.execute(_SAME_FINGERPRINT):
        yield Problem(
            file,
            line,
            "fingerprint",
            f"is the same as in {names[first_file]}:{first_line}, and both incidents are unresolved",
        )
    for file, line, incident_id in await connection.execute(_FINGERPRINT_TAKEN):
        yield Problem(file, line, "fingerprint", f"the unresolved incident {incident_id} has it")
    for file, line in await connection.execute(_UNKNOWN):
        yield Problem(file, line, "incident_id", "there is no such incident, in the files or in the database")
    for file, line in await connection.execute(_NOT_RESOLVED):
        yield Problem(file, line, "incident_resolve_time", "its incident is not RESOLVED, so leave this out")


_PROGRESS = [event_type.value for event_type in PROGRESS_EVENTS]
_INSERT = text("""
    INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source,
        occurrence_count, last_seen_time, create_time, open_time, update_time, investigate_time, resolve_time,
        last_progress_time, resolution_type, resolution_note, resolved_by, resolution_number, opened_by, content_hash)
    SELECT row_id, title, description, severity, state, fingerprint, labels, source, occurrence_count, last_seen_time,
        create_time, create_time, greatest(last_seen_time, investigate_time, resolve_time, progress.latest),
        investigate_time, resolve_time,
        coalesce(resolve_time, greatest(create_time, investigate_time, progress.latest)),
        resolution_type, resolution_note, resolved_by, resolution_number, opened_by, imported.content_hash
    FROM staged_rows
    CROSS JOIN LATERAL jsonb_to_record(body) AS imported (title text, description text, severity text, state text,
        fingerprint text, labels jsonb, source text, occurrence_count integer, last_seen_time timestamptz,
        create_time timestamptz, investigate_time timestamptz, resolve_time timestamptz, resolution_type text,
        resolution_note text, resolved_by text, resolution_number integer, opened_by text, content_hash text)
    LEFT JOIN LATERAL (
        -- Events after the resolution are no progress.
        SELECT max(event_time) AS latest FROM staged_events
        WHERE staged_events.incident_id = row_id AND type = ANY (:progress) AND resolve_time IS NULL
    ) AS progress ON TRUE
    WHERE position >= :start AND position < :stop
    ORDER BY row_id
""").bindparams(bindparam("progress", type_=ARRAY(Text)))
_INSERT_DISPOSITIONS = text("""
    INSERT INTO dispositions
        (incident_id, resolution_number, resolution_type, severity, resolve_time, resolution_seconds)
    SELECT incident_id, 1, resolution_type, severity, resolve_time,
        extract(epoch FROM resolve_time - create_time)::float8
    FROM staged_rows JOIN incidents ON incidents.incident_id = row_id
    WHERE position >= :start AND position < :stop AND state = 'RESOLVED'
    RETURNING incident_id, resolution_number, resolution_type, resolution_seconds
""")
# As they are after a resolution, so that they are listed; none of them is ever due.
_INSERT_EFFECTS = text(
    insert_ended_jobs(f"""(
        SELECT topic, {dedup_key_sql()} AS dedup_key, incident_id, {PAYLOAD_SQL} AS payload,
            CASE WHEN topic <> :written THEN :reason END AS skip_reason, resolve_time AS create_time
        FROM staged_rows JOIN dispositions ON incident_id = row_id CROSS JOIN unnest(:topics) AS effect (topic)
        WHERE position >= :start AND position < :stop
    ) AS imported""")
).bindparams(
    bindparam("topics", type_=ARRAY(Text)), bindparam("written", type_=Text), bindparam("reason", type_=Text)
)
_SKIPPED = "imported as resolved: what was to happen then is long past"


async def insert_incidents(connection: AsyncConnection, batch: Mapping[str, int]) -> Sequence[EffectPayload]:
    """Write a batch of incidents. Returns the resolutions of those that are RESOLVED.

    Their side effects are SKIPPED, except the disposition, which the stats are made of.
    """
    await connection.execute(_INSERT, {**batch, "progress": _PROGRESS})
    resolutions = [
        EffectPayload(incident_id, number, ResolutionType(resolution_type), seconds)
        for incident_id, number, resolution_type, seconds in await connection.execute(
            _INSERT_DISPOSITIONS, batch
        )
    ]
    if resolutions:
        await connection.execute(
            _INSERT_EFFECTS,
            {
                **batch,
                "topics": [effect.topic for effect in Effect],
                "written": Effect.DISPOSITION.topic,
                "reason": _SKIPPED,
            },
        )
    return resolutions


_OPENED = text("SELECT body ->> 'severity', count(*) FROM staged_rows GROUP BY 1")


async def count_opened(connection: AsyncConnection) -> Mapping[str, int]:
    """Return the number of incidents to be written by severity."""
    return dict(tuple(row) for row in await connection.execute(_OPENED))
