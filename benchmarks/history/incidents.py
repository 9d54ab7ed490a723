"""The history of the incident service: incidents, timelines, side effects with their jobs, knowledge, counters."""

from collections.abc import Sequence

import asyncpg

from benchmarks.history.actions import create_actions
from benchmarks.history.audit import append_records
from benchmarks.history.bulk import Step, bulk_load
from benchmarks.history.knowledge import create_lessons, index_knowledge
from benchmarks.history.shape import PROPOSALS, Shape
from incident.counters import RESOLUTION_BOUNDS_SECONDS

TABLES = (
    "incidents",
    "incident_events",
    "create_requests",
    "postmortems",
    "dispositions",
    "knowledge",
    "knowledge_uses",
    "outbox",
    "counters",
)

_INCIDENTS = """
INSERT INTO incidents (
    incident_id, title, description, severity, state, fingerprint, labels, source, occurrence_count, last_seen_time,
    create_time, open_time, update_time, investigate_time, resolve_time, last_progress_time, resolution_type,
    resolution_note, resolved_by, resolution_number, opened_by, version, content_hash)
SELECT incident_id, what || ' of ' || app || ' beyond its threshold for 10 minutes', 'Requests are still answered in time.',
    severity, CASE WHEN is_resolved THEN 'RESOLVED' WHEN story = 'NEW' THEN 'OPEN' ELSE 'INVESTIGATING' END,
    md5(CASE WHEN is_resolved THEN 'problem ' || problem ELSE 'unresolved ' || n END),
    jsonb_build_object('namespace', 'prod', 'app', app, 'alertname', what || 'High', 'team', 'team-' || problem % 7),
    'alertmanager', 1 + repeats, last_seen_time, create_time, create_time, update_time,
    CASE WHEN story <> 'NEW' THEN create_time + interval '30 seconds' END,
    CASE WHEN is_resolved THEN resolve_time END,
    CASE WHEN is_resolved THEN resolve_time ELSE create_time + interval '1 minute' END,
    resolution_type, CASE WHEN is_resolved THEN 'back below its threshold' ELSE '' END,
    CASE WHEN is_resolved THEN 'service:approval' ELSE '' END, is_resolved::int, 'service:alert-intake',
    3 + repeats, md5(incident_id)
FROM facts CROSS JOIN LATERAL (
    SELECT create_time + duration * (repeats / (repeats + 1.0)) AS last_seen_time,
        CASE WHEN is_resolved THEN resolve_time ELSE create_time + duration END AS update_time
) AS times
ORDER BY n
"""

_STAMP = """to_char({time} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_EVENTS = f"""
INSERT INTO incident_events (event_id, incident_id, type, actor, event_time, summary, attributes, resolution_number)
SELECT event_id, incident_id, type, actor, event_time, summary, attributes, resolution_number FROM (
    SELECT incident_id, event.*, 0 AS resolution_number FROM facts CROSS JOIN LATERAL (VALUES
        (md5(n || 'opened')::uuid::text, 'OPENED', 'service:alert-intake', create_time, what || ' of ' || app, '{{}}'::jsonb),
        (CASE WHEN story <> 'NEW' THEN md5(n || 'investigated')::uuid::text END, 'INVESTIGATION_STARTED', 'service:alert-intake',
            create_time + interval '30 seconds', '', '{{}}')
    ) AS event (event_id, type, actor, event_time, summary, attributes)
    UNION ALL
    SELECT incident_id, md5(n || 'reported' || repeat)::uuid::text, 'DEDUPLICATED', 'service:alert-intake',
        create_time + duration * (repeat / (repeats + 1.0)), what || ' of ' || app, '{{}}', 0
    FROM facts CROSS JOIN generate_series(1, repeats) AS repeat
    UNION ALL
    SELECT incident_id, approval_id || '/' || lower(type) || '/' || {_STAMP.format(time="event_time")}, type,
        'service:approval', event_time, summary,
        jsonb_build_object('approval_id', approval_id) || attributes, 0
    FROM proposals LEFT JOIN actions ON actions.action_number = CASE WHEN is_noop THEN 0 ELSE proposals.action_number END
    CROSS JOIN LATERAL (VALUES
        ('PROPOSED', propose_time, action, '{{"proposed_by": "service:advisor"}}'::jsonb),
        (CASE story WHEN 'REJECTED' THEN 'REJECTED' WHEN 'EXPIRED' THEN 'EXPIRED' ELSE 'APPROVED' END, decide_time, '',
            '{{"approved_by": "alice"}}'),
        ('EXECUTION_STARTED', CASE WHEN NOT is_noop THEN execute_time END, action, '{{}}'),
        (CASE WHEN approval_state = 'FAILED' THEN 'EXECUTION_FAILED' ELSE 'EXECUTED' END, finish_time, action, '{{}}'),
        (CASE recovery WHEN 'VERIFIED' THEN 'RECOVERED' WHEN 'NOT_RECOVERED' THEN recovery END, recovery_time, '', '{{}}')
    ) AS event (type, event_time, summary, attributes)
    WHERE event_time IS NOT NULL AND type IS NOT NULL
    UNION ALL
    SELECT incident_id, 'service:incident/' || incident_id || '/' || lower(type) || suffix, type, actor,
        resolve_time + after, summary, attributes, 1
    FROM facts CROSS JOIN LATERAL (VALUES
        ('RESOLVED', '/1', 'service:approval', interval '0', 'back below its threshold',
            jsonb_build_object('resolution_type', resolution_type)),
        ('EFFECT_DONE', '/postmortem/1', 'service:incident', interval '1 second', '', '{{"effect": "POSTMORTEM"}}'),
        ('EFFECT_DONE', '/disposition/1', 'service:incident', interval '1 second', '', '{{"effect": "DISPOSITION"}}'),
        ('EFFECT_DONE', '/knowledge/1', 'service:incident', interval '1 second', '', '{{"effect": "KNOWLEDGE"}}')
    ) AS event (type, suffix, actor, after, summary, attributes)
    WHERE is_resolved
    UNION ALL
    SELECT incident_id, 'service:incident/' || incident_id || '/effect_parked/webhook/1/12', 'EFFECT_PARKED',
        'service:incident', resolve_time + interval '1 hour', 'HTTP 503', '{{"effect": "WEBHOOK"}}', 1
    FROM facts WHERE is_resolved AND n % $1 = 3
) AS event
WHERE event_id IS NOT NULL
ORDER BY event_time
"""  # noqa: S608 - constants

_CREATE_REQUESTS = """
INSERT INTO create_requests (request_id, actor, content_hash, incident_id, deduplicated, create_time)
SELECT 'request-' || incident_id, 'service:alert-intake', md5(incident_id), incident_id, FALSE, create_time
FROM facts ORDER BY n
"""

_POSTMORTEMS = """
INSERT INTO postmortems (incident_id, resolution_number, resolution_type, markdown, create_time)
SELECT incident_id, 1, resolution_type, concat_ws(E'\\n', '# Postmortem of ' || incident_id, '',
        '| severity | opened | resolved | how |', '|---|---|---|---|',
        '| ' || concat_ws(' | ', severity, create_time, resolve_time, resolution_type) || ' |', '', '## Timeline', '',
        '- ' || create_time || ' OPENED: ' || what || ' of ' || app || ' beyond its threshold for 10 minutes',
        '- ' || create_time + interval '30 seconds' || ' INVESTIGATION_STARTED',
        '- ' || create_time + interval '1 minute' || ' PROPOSED', '- ' || resolve_time || ' RESOLVED', '',
        '## What was learnt', '', 'The value came back below its threshold.'),
    resolve_time + interval '1 second'
FROM facts WHERE is_resolved ORDER BY resolve_time
"""

_DISPOSITIONS = """
INSERT INTO dispositions (incident_id, resolution_number, resolution_type, severity, resolve_time, resolution_seconds)
SELECT incident_id, 1, resolution_type, severity, resolve_time, extract(epoch FROM duration)
FROM facts WHERE is_resolved ORDER BY resolve_time
"""

_KNOWLEDGE_USES = """
INSERT INTO knowledge_uses (incident_id, resolution_number, knowledge_id, held)
SELECT incident_id, 1, knowledge_id, TRUE FROM facts JOIN lessons USING (problem, resolution_type) ORDER BY n
"""

# Without a receiver, notifications are skipped. One webhook in so many is parked.
_OUTBOX = """
INSERT INTO outbox
    (topic, dedup_key, incident_id, payload, state, attempts, next_attempt_time, last_error, create_time, done_time)
SELECT topic, incident_id || '/1', incident_id,
    jsonb_build_object('incident_id', incident_id, 'resolution_number', 1, 'resolution_type', resolution_type,
        'resolution_seconds', extract(epoch FROM duration)),
    job.state, CASE job.state WHEN 'DONE' THEN 1 WHEN 'PARKED' THEN 12 ELSE 0 END,
    resolve_time + CASE job.state WHEN 'PARKED' THEN interval '1 hour' ELSE interval '0' END,
    CASE job.state WHEN 'SKIPPED' THEN 'INCIDENT_NOTIFY_URL is not set' WHEN 'PARKED' THEN 'HTTP 503' END,
    resolve_time, CASE WHEN job.state <> 'PARKED' THEN resolve_time + interval '1 second' END
FROM facts CROSS JOIN LATERAL (VALUES
    ('effect.postmortem', 'DONE'), ('effect.disposition', 'DONE'), ('effect.knowledge', 'DONE'),
    ('effect.notification', 'SKIPPED'), ('effect.webhook', CASE WHEN n % $1 = 3 THEN 'PARKED' ELSE 'DONE' END)
) AS job (topic, state)
WHERE is_resolved ORDER BY resolve_time
"""

# In shards, as several processes would have raised them.
_COUNTERS = """
INSERT INTO counters (name, label, shard, value)
SELECT 'incidents_opened', severity, hashtext(incident_id) & 7, count(*) FROM incidents GROUP BY 2, 3
UNION ALL
SELECT 'incidents_resolved', resolution_type, hashtext(incident_id) & 7, count(*) FROM dispositions GROUP BY 2, 3
UNION ALL
SELECT 'resolution_seconds_bucket', coalesce((
        SELECT min(bound)::text FROM unnest($1::int[]) AS bound WHERE bound >= resolution_seconds), 'inf'),
    hashtext(incident_id) & 7, count(*)
FROM dispositions GROUP BY 2, 3
UNION ALL
SELECT 'resolution_milliseconds_sum', '', hashtext(incident_id) & 7, sum(round(resolution_seconds * 1000))
FROM dispositions GROUP BY 2, 3
"""

_AUDITED = """
SELECT n % 32, 'service:alert-intake', '/awoooi.incident.v1.IncidentService/Create', incident_id FROM facts WHERE is_recent
UNION ALL
SELECT n % 32, 'service:approval', '/awoooi.incident.v1.IncidentService/Resolve', incident_id FROM facts
WHERE is_recent AND is_resolved
"""


async def fill_incidents(url: str, shape: Shape, step: Step) -> None:
    """Fill the incident service's database, which has its newest schema and no rows."""
    async with bulk_load(url, TABLES, step) as connection:
        await create_actions(connection, shape)
        await create_lessons(connection, shape)
        for first in range(0, shape.incidents, shape.batch):
            last = min(first + shape.batch, shape.incidents) - 1
            await _fill_batch(connection, shape, first, last)
            step(f"incidents: {last + 1:,} of {shape.incidents:,}")
        await index_knowledge(connection)
        await connection.execute(_COUNTERS, _bounds())


async def _fill_batch(
    connection: "asyncpg.Connection[asyncpg.Record]", shape: Shape, first: int, last: int
) -> None:
    parked_each = max(shape.incidents // 50, 10)
    async with connection.transaction():
        await connection.execute(shape.facts(first, last))
        await connection.execute(PROPOSALS)
        await connection.execute(_INCIDENTS)
        await connection.execute(_EVENTS, parked_each)
        await connection.execute(_CREATE_REQUESTS)
        await connection.execute(_POSTMORTEMS)
        await connection.execute(_DISPOSITIONS)
        await connection.execute(_KNOWLEDGE_USES)
        await connection.execute(_OUTBOX, parked_each)
        await append_records(connection, _AUDITED)


def _bounds() -> Sequence[int]:
    return list(RESOLUTION_BOUNDS_SECONDS)
