"""The one statement that resolves incidents. Nothing here commits: on an autocommit connection it is a transaction."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import DateTime, Float, Integer, SmallInteger, Text, Uuid

from incident.lifecycle.effect_jobs import (
    PAYLOAD_SQL,
    EffectPayload,
    dedup_key,
    dedup_key_sql,
    latest_numbers_sql,
)
from incident.lifecycle.model import RemovedIncident, ResolveCommand
from incident.lifecycle.repository import (
    COLUMNS,
    ETAG_SQL,
    IS_CANARY_SQL,
    incident_statement,
    qualified,
    to_incident,
)
from incident.model import ALLOWED_FROM, MAX_RESOLUTION_NUMBER, Effect, Incident, Transition
from servicekit.audit.model import Call
from servicekit.audit.repository import append_changes
from servicekit.database.result_columns import result_columns
from servicekit.outbox.queue import Job
from servicekit.outbox.sql import insert_jobs, notify_workers

# Of a `command` and the row of its incident: the opening that the command is for has ended. Null is false.
OPENING_IS_OVER = f"""
    CASE
        WHEN opening > 0 THEN opening <= least(resolution_number, {MAX_RESOLUTION_NUMBER})
        WHEN approval_id = '' OR resolution_number = 0 THEN FALSE
        ELSE open_time > execute_time OR EXISTS (
            SELECT FROM {latest_numbers_sql("resolution_number")} AS number
            CROSS JOIN LATERAL (
                SELECT incident_events.attributes FROM incident_events
                WHERE event_id = 'service:incident/' || command.incident_id || '/resolved/' || number
                OFFSET 0) AS resolution
            WHERE resolution.attributes ->> 'approval_id' = command.approval_id)
        END
"""

# One statement is one transaction: guard, transition, timeline event and side-effect jobs, for a whole group commit.
# - `locked` locks the rows in id order, so that two such statements cannot deadlock. Rows that are RESOLVED already are
#   neither locked nor written. A row that a concurrent transaction resolves is waited for, re-checked and left.
# - `seen` is the incidents as they were when the statement began.
# - `over` finds the commands whose opening has ended: an earlier opening than the current one; or, where the command does
#   not know its opening, one whose approval has resolved the incident before, or was executed before the last Reopen.
#   A row that a concurrent transaction has changed since is left to the next statement.
# - `approval_events` completes the timeline before the RESOLVED event: with what its approval did, unless that is there, under
#   this id or another. The latest entries are searched: a flapping incident has thousands. Versions before event times had
#   the version in an id, and the time of the delivery as its time.
# - The last select returns the rows that were not resolved here, as they were when the statement began.
# - `audited` appends the records of what was resolved here; it is evaluated because the last select reads it.
# Every table is read by its keys (OFFSET 0 forbids other joins): a plan that was made while the tables were small must not
# scan them later.
_RESOLVE = incident_statement(
    f"""
    WITH command AS (
        SELECT * FROM unnest(:incident_ids, :resolution_types, :notes, :actors, :etags, :attributes, :approval_ids,
                :openings, :execute_times, :operations, :methods, :digests)
            AS command (incident_id, resolution_type, note, actor, etag, attributes, approval_id, opening, execute_time,
                operation, method, digest)
    ), seen AS (
        SELECT incident_id, resolution_number, open_time FROM incidents WHERE incident_id = ANY (:incident_ids)
    ), over AS (
        SELECT incident_id FROM command JOIN seen USING (incident_id)
        WHERE {OPENING_IS_OVER}
    ), locked AS (
        SELECT incident_id, version, resolution_number, {ETAG_SQL} AS etag FROM incidents
        WHERE incident_id = ANY (:incident_ids) AND state = ANY (:from_states)
        ORDER BY incident_id
        FOR NO KEY UPDATE
    ), resolved AS (
        UPDATE incidents SET
            state = 'RESOLVED',
            resolution_type = command.resolution_type,
            resolution_note = command.note,
            resolved_by = command.actor,
            resolution_number = least(incidents.resolution_number, {MAX_RESOLUTION_NUMBER - 1}) + 1,
            resolve_time = now(),
            update_time = now(),
            last_progress_time = now(),
            version = least(incidents.version, 9223372036854775806) + 1
        FROM command JOIN locked USING (incident_id)
        WHERE incidents.incident_id = locked.incident_id
            AND command.etag IN ('', locked.etag, locked.version::text)
            AND CASE
                WHEN command.opening > 0 THEN command.opening > least(locked.resolution_number, {MAX_RESOLUTION_NUMBER})
                WHEN command.approval_id = '' THEN TRUE
                ELSE NOT EXISTS (SELECT FROM over WHERE over.incident_id = locked.incident_id) AND EXISTS (
                    SELECT FROM seen
                    WHERE seen.incident_id = locked.incident_id AND seen.resolution_number = locked.resolution_number)
                END
        RETURNING {qualified(COLUMNS, "incidents")}, command.attributes, command.operation, command.method, command.digest,
            greatest(extract(epoch FROM now() - incidents.open_time), 0)::float8 AS resolution_seconds
    ), approval_events AS (
        INSERT INTO incident_events
            (event_id, incident_id, type, actor, event_time, summary, attributes, resolution_number)
        SELECT entry.event_id, entry.incident_id, entry.type, entry.actor, entry.event_time, entry.summary, entry.attributes,
            resolved.resolution_number - 1
        FROM unnest(:entry_incident_ids, :entry_ids, :entry_types, :entry_actors, :entry_times, :entry_summaries,
                :entry_attributes) WITH ORDINALITY
            AS entry (incident_id, event_id, type, actor, event_time, summary, attributes, position)
        JOIN resolved USING (incident_id)
        WHERE NOT EXISTS (
            SELECT FROM (
                SELECT event_id, type, event_time, attributes FROM incident_events
                WHERE incident_id = entry.incident_id AND type IN ('PROPOSED', 'APPROVED', 'REJECTED', 'EXPIRED',
                    'CANCELLED', 'EXECUTED', 'EXECUTION_FAILED', 'RECOVERED', 'NOT_RECOVERED')
                ORDER BY sequence DESC LIMIT 100
            ) AS known
            WHERE known.type = entry.type
                AND known.attributes ->> 'approval_id' = entry.attributes ->> 'approval_id'
                AND (known.event_time = entry.event_time OR known.event_id
                    LIKE (entry.attributes ->> 'approval_id') || '/%/' || lower(entry.type)))
        ORDER BY entry.incident_id, position
        ON CONFLICT (event_id) DO NOTHING
        RETURNING event_id
    ), events AS (
        -- The count makes these the later ones: their sequence numbers are drawn after all of the above.
        INSERT INTO incident_events (event_id, incident_id, type, actor, summary, attributes, resolution_number)
        SELECT 'service:incident/' || incident_id || '/resolved/' || resolution_number, incident_id, 'RESOLVED', resolved_by,
            resolution_note, attributes, resolution_number
        FROM resolved CROSS JOIN (SELECT count(*) FROM approval_events) AS written
    ), side_effects AS (
        SELECT topic, {dedup_key_sql()} AS dedup_key, incident_id, {PAYLOAD_SQL} AS payload,
            CASE WHEN topic <> '{Effect.POSTMORTEM.topic}' AND {IS_CANARY_SQL} THEN 'the incident is a canary'
                ELSE skip_reason END AS skip_reason
        FROM resolved CROSS JOIN unnest(:topics, :skip_reasons) AS effect (topic, skip_reason)
    ), jobs AS (
        {insert_jobs("side_effects")}
    ), notified AS (
        {notify_workers("jobs")}
    ), leased AS (
        SELECT dedup_key, jsonb_object_agg(topic, job_id) AS jobs FROM jobs WHERE is_leased GROUP BY dedup_key
    ), records AS (
        -- The count makes them the last: the chain is locked until the commit.
        SELECT resolved_by AS actor, method, operation, incident_id AS target, digest
        FROM resolved CROSS JOIN (SELECT count(*) FROM jobs) AS queued CROSS JOIN (SELECT count(*) FROM notified) AS sent
    ), audited AS (
        {append_changes(":chain", "records")}
    )
    SELECT {COLUMNS}, TRUE AS resolved_here, FALSE AS is_over, resolution_seconds, leased.jobs
    FROM resolved LEFT JOIN leased ON leased.dedup_key = {dedup_key_sql()} CROSS JOIN audited
    UNION ALL
    SELECT {COLUMNS}, FALSE, incident_id IN (SELECT incident_id FROM over), NULL, NULL FROM incidents
    WHERE incident_id = ANY (:incident_ids) AND incident_id NOT IN (SELECT incident_id FROM resolved)
    """,
    bindparam("incident_ids", type_=ARRAY(Text)),
    bindparam("resolution_types", type_=ARRAY(Text)),
    bindparam("notes", type_=ARRAY(Text)),
    bindparam("actors", type_=ARRAY(Text)),
    bindparam("etags", type_=ARRAY(Text)),
    bindparam("attributes", type_=ARRAY(JSONB)),
    bindparam("approval_ids", type_=ARRAY(Text)),
    bindparam("openings", type_=ARRAY(Integer)),
    bindparam("execute_times", type_=ARRAY(DateTime(timezone=True))),
    bindparam("operations", type_=ARRAY(Text)),
    bindparam("methods", type_=ARRAY(Text)),
    bindparam("digests", type_=ARRAY(Text)),
    bindparam("chain", type_=SmallInteger),
    bindparam("entry_incident_ids", type_=ARRAY(Text)),
    bindparam("entry_ids", type_=ARRAY(Text)),
    bindparam("entry_types", type_=ARRAY(Text)),
    bindparam("entry_actors", type_=ARRAY(Text)),
    bindparam("entry_times", type_=ARRAY(DateTime(timezone=True))),
    bindparam("entry_summaries", type_=ARRAY(Text)),
    bindparam("entry_attributes", type_=ARRAY(JSONB)),
    bindparam("from_states", type_=ARRAY(Text)),
    bindparam("topics", type_=ARRAY(Text)),
    bindparam("skip_reasons", type_=ARRAY(Text)),
    bindparam("token", type_=Uuid),
    bindparam("lease_seconds", type_=Float),
    others=result_columns("resolved_here, is_over, resolution_seconds, jobs", jobs=JSONB),
)


@dataclass(frozen=True, slots=True)
class ResolvedBatch:
    """The incidents of a batch by id: those resolved by it, and the others that exist, as they were before.

    `removed` are those that retention has removed. An id in none of them is unknown. Of the others, those in `over` have left the opening that their command is for. `jobs` are
    the side effects that were inserted already leased to this process.
    """

    resolved: Mapping[str, Incident]
    others: Mapping[str, Incident]
    removed: Mapping[str, RemovedIncident]
    over: Collection[str]
    jobs: Sequence[Job]


async def resolve(
    connection: AsyncConnection,
    commands: Sequence[ResolveCommand],
    calls: Sequence[Call],
    effects: Mapping[Effect, str | None],
    *,
    lease: timedelta | None,
    chain: int,
) -> ResolvedBatch:
    """Resolve incidents, each in one command, and enqueue `effects` for those that this batch resolves.

    Each is recorded by its call, in a chain of the audit trail. An effect with a reason is inserted SKIPPED; with `lease` the others are inserted already leased to this process.
    """
    entries = [entry for command in commands for entry in command.approval_events]
    token = uuid.uuid4() if lease is not None else None
    rows = await connection.execute(
        _RESOLVE,
        {
            "incident_ids": [command.incident_id for command in commands],
            "resolution_types": [command.resolution_type for command in commands],
            "notes": [command.note for command in commands],
            "actors": [command.actor for command in commands],
            "etags": [command.etag for command in commands],
            "attributes": [dict(command.attributes()) for command in commands],
            "approval_ids": [command.approval_id for command in commands],
            "openings": [command.opening for command in commands],
            "execute_times": [command.execute_time for command in commands],
            "operations": [call.operation for call in calls],
            "methods": [call.method for call in calls],
            "digests": [call.digest for call in calls],
            "chain": chain,
            "entry_incident_ids": [entry.incident_id for entry in entries],
            "entry_ids": [entry.event_id for entry in entries],
            "entry_types": [entry.type for entry in entries],
            "entry_actors": [entry.actor for entry in entries],
            "entry_times": [entry.event_time for entry in entries],
            "entry_summaries": [entry.summary for entry in entries],
            "entry_attributes": [dict(entry.attributes) for entry in entries],
            "from_states": list(ALLOWED_FROM[Transition.RESOLVE]),
            "topics": [effect.topic for effect in effects],
            "skip_reasons": list(effects.values()),
            "token": token,
            "lease_seconds": 0.0 if lease is None else lease.total_seconds(),
        },
    )
    resolved: dict[str, Incident] = {}
    others: dict[str, Incident] = {}
    over: set[str] = set()
    leased: list[Job] = []
    for *columns, resolved_here, is_over, seconds, job_ids in rows:
        incident = to_incident(columns)
        if is_over:
            over.add(incident.incident_id)
        (resolved if resolved_here else others)[incident.incident_id] = incident
        if token is not None and job_ids is not None:
            leased.extend(_leased_jobs(incident, seconds, job_ids, token))
    missing = {command.incident_id for command in commands} - resolved.keys() - others.keys()
    # One statement more, in the rare case alone.
    removed = await find_removed(connection, missing) if missing else {}
    return ResolvedBatch(resolved, others, removed, over, leased)


_REMOVED = text("""
    SELECT incident_id, openings FROM removed_incidents WHERE incident_id = ANY (:incident_ids)
""").bindparams(bindparam("incident_ids", type_=ARRAY(Text)))


async def find_removed(
    connection: AsyncConnection, incident_ids: Collection[str]
) -> Mapping[str, RemovedIncident]:
    """Return those of the incidents that were removed, by id."""
    rows = await connection.execute(_REMOVED, {"incident_ids": list(incident_ids)})
    return {incident_id: RemovedIncident(incident_id, openings) for incident_id, openings in rows}


def _leased_jobs(
    incident: Incident, seconds: float, job_ids: Mapping[str, int], token: uuid.UUID
) -> Sequence[Job]:
    if incident.resolution_type is None:
        raise RuntimeError("a RESOLVED incident has a resolution type")
    payload = EffectPayload(
        incident.incident_id, incident.resolution_number, incident.resolution_type, seconds
    )
    key, content = dedup_key(payload.key), payload.to_json()
    return [Job(job_id, topic, key, content, 1, token) for topic, job_id in job_ids.items()]
