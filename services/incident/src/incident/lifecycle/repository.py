"""Every statement on incidents and their timelines. Nothing here commits.

The state's guards come from the model; a unique constraint decides every race that a guard cannot.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import BindParameter, TextualSelect, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger, Float, Text, Uuid

from incident.errors import FingerprintTakenError, RequestIdReusedError
from incident.model import (
    ALLOWED_FROM,
    Effect,
    EventType,
    Incident,
    NewIncident,
    ResolutionType,
    Resolve,
    Severity,
    State,
    Transition,
)
from servicekit.database.engine import constraint_name
from servicekit.outbox.queue import Job

COLUMNS = """
    incident_id, title, description, severity, state, fingerprint, labels, source, occurrence_count, last_seen_time,
    create_time, update_time, investigate_time, resolve_time, last_progress_time, resolution_type, resolution_note,
    resolved_by, resolution_number, opened_by, version
"""


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A Create that was answered: what a retry with its request id is compared with and answered from."""

    content_hash: str
    incident_id: str
    deduplicated: bool


def to_incident(row: Sequence[Any]) -> Incident:
    """Return the incident in a row of COLUMNS."""
    return Incident(
        incident_id=row[0],
        title=row[1],
        description=row[2],
        severity=Severity(row[3]),
        state=State(row[4]),
        fingerprint=row[5],
        labels=row[6],
        source=row[7],
        occurrence_count=row[8],
        last_seen_time=row[9],
        create_time=row[10],
        update_time=row[11],
        investigate_time=row[12],
        resolve_time=row[13],
        last_progress_time=row[14],
        resolution_type=None if row[15] is None else ResolutionType(row[15]),
        resolution_note=row[16],
        resolved_by=row[17],
        resolution_number=row[18],
        opened_by=row[19],
        version=row[20],
    )


def incident_statement(sql: str, *parameters: BindParameter[Any], **types: Any) -> TextualSelect:
    """Return a statement whose rows hold COLUMNS, and maybe others of these `types`."""
    return text(sql).bindparams(*parameters).columns(labels=JSONB, **types)


_GET = incident_statement(f"SELECT {COLUMNS} FROM incidents WHERE incident_id = :incident_id")
_GET_FOR_UPDATE = incident_statement(
    f"SELECT {COLUMNS} FROM incidents WHERE incident_id = :incident_id FOR NO KEY UPDATE"
)


async def get(connection: AsyncConnection, incident_id: str) -> Incident | None:
    """Return an incident, or None when there is none."""
    row = (await connection.execute(_GET, {"incident_id": incident_id})).one_or_none()
    return None if row is None else to_incident(row)


async def get_for_update(connection: AsyncConnection, incident_id: str) -> Incident | None:
    """Return an incident, locked so that its state cannot change before the transaction ends; None when there is none."""
    row = (await connection.execute(_GET_FOR_UPDATE, {"incident_id": incident_id})).one_or_none()
    return None if row is None else to_incident(row)


# Whatever unique constraint is in the way (id or fingerprint), nothing is inserted and nothing fails.
_INSERT = incident_statement(
    f"""
    INSERT INTO incidents
        (incident_id, title, description, severity, state, fingerprint, labels, source, opened_by, content_hash)
    VALUES
        (:incident_id, :title, :description, :severity, :state, :fingerprint, :labels, :source, :opened_by, :hash)
    ON CONFLICT DO NOTHING
    RETURNING {COLUMNS}
    """,
    bindparam("labels", type_=JSONB),
)


async def insert(
    connection: AsyncConnection, incident_id: str, new: NewIncident, *, actor: str
) -> Incident | None:
    """Insert an OPEN incident; None when its id or its fingerprint is taken."""
    row = (
        await connection.execute(
            _INSERT,
            {
                "incident_id": incident_id,
                "title": new.title,
                "description": new.description,
                "severity": new.severity,
                "state": State.OPEN,
                "fingerprint": new.fingerprint,
                "labels": dict(new.labels),
                "source": new.source,
                "opened_by": actor,
                "hash": new.content_hash(),
            },
        )
    ).one_or_none()
    return None if row is None else to_incident(row)


_CONTENT_HASH = text("SELECT content_hash FROM incidents WHERE incident_id = :incident_id")


async def get_content_hash(connection: AsyncConnection, incident_id: str) -> str | None:
    """Return the digest of what an incident was created with, or None when there is none."""
    found: str | None = await connection.scalar(_CONTENT_HASH, {"incident_id": incident_id})
    return found


_COUNT_OCCURRENCE = incident_statement(f"""
    UPDATE incidents SET
        occurrence_count = occurrence_count + 1, last_seen_time = now(), update_time = now(), version = version + 1
    WHERE fingerprint = :fingerprint AND fingerprint <> '' AND state <> 'RESOLVED'
    RETURNING {COLUMNS}
""")


async def count_occurrence(connection: AsyncConnection, fingerprint: str) -> Incident | None:
    """Count one more report of the unresolved incident with this fingerprint; None when there is none."""
    row = (await connection.execute(_COUNT_OCCURRENCE, {"fingerprint": fingerprint})).one_or_none()
    return None if row is None else to_incident(row)


_GET_CREATE_REQUEST = text(
    "SELECT content_hash, incident_id, deduplicated FROM create_requests WHERE request_id = :request_id"
)
_INSERT_CREATE_REQUEST = text("""
    INSERT INTO create_requests (request_id, content_hash, incident_id, deduplicated)
    VALUES (:request_id, :hash, :incident_id, :deduplicated)
""")
_CREATE_REQUESTS_KEY = "create_requests_pkey"


class ConcurrentCreateError(Exception):
    """Another call with the same request_id committed first."""


async def get_create_request(connection: AsyncConnection, request_id: str) -> CreateRequest | None:
    """Return the answered Create with this request id, or None."""
    row = (await connection.execute(_GET_CREATE_REQUEST, {"request_id": request_id})).one_or_none()
    return None if row is None else CreateRequest(*row)


async def insert_create_request(
    connection: AsyncConnection, new: NewIncident, *, incident_id: str, deduplicated: bool
) -> None:
    """Remember how a Create with a request id was answered.

    Raises ConcurrentCreateError when another one was faster; the transaction is then over.
    """
    try:
        await connection.execute(
            _INSERT_CREATE_REQUEST,
            {
                "request_id": new.request_id,
                "hash": new.request_hash(),
                "incident_id": incident_id,
                "deduplicated": deduplicated,
            },
        )
    except IntegrityError as exc:
        if constraint_name(exc) == _CREATE_REQUESTS_KEY:
            raise ConcurrentCreateError from exc
        raise


def check_same_content(request: CreateRequest, new: NewIncident) -> None:
    """Raises RequestIdReusedError when the answered Create had other content than this one."""
    if request.content_hash != new.request_hash():
        raise RequestIdReusedError


_INSERT_EVENT = text("""
    INSERT INTO incident_events (event_id, incident_id, type, actor, summary, attributes, resolution_number)
    VALUES (coalesce(:event_id, gen_random_uuid()::text), :incident_id, :type, :actor, :summary, '{}',
        :resolution_number)
""").bindparams(bindparam("event_id", type_=Text))


async def insert_event(
    connection: AsyncConnection,
    incident: Incident,
    event_type: EventType,
    *,
    actor: str,
    summary: str,
    event_id: str | None = None,
) -> None:
    """Append an event of the service's own to the timeline of an incident that this transaction wrote."""
    await connection.execute(
        _INSERT_EVENT,
        {
            "incident_id": incident.incident_id,
            "type": event_type,
            "actor": actor,
            "summary": summary,
            "event_id": event_id,
            "resolution_number": incident.resolution_number,
        },
    )


_START_INVESTIGATION = incident_statement(f"""
    UPDATE incidents SET
        state = 'INVESTIGATING', investigate_time = now(), last_progress_time = now(), update_time = now(),
        version = version + 1
    WHERE incident_id = :incident_id
    RETURNING {COLUMNS}
""")


async def start_investigation(connection: AsyncConnection, incident_id: str) -> Incident:
    """Bring an incident that is locked and may be investigated to INVESTIGATING."""
    return to_incident((await connection.execute(_START_INVESTIGATION, {"incident_id": incident_id})).one())


_OWN_COLUMNS = ", ".join(f"incidents.{column.strip()}" for column in COLUMNS.split(","))

# One statement is one transaction: guard, transition, timeline event and side-effect jobs, for all callers that wait.
# - `locked` takes the rows in id order, so that two such statements cannot deadlock. Rows that are RESOLVED already are
#   neither locked nor written. A row that another transaction resolves meanwhile is waited for, checked again and left.
# - The last select answers for the rows that were not resolved here, as they were when the statement began.
_RESOLVE = incident_statement(
    f"""
    WITH asked AS (
        SELECT * FROM unnest(:incident_ids, :resolution_types, :notes, :actors, :versions, :attributes)
            AS asked (incident_id, resolution_type, note, actor, version, attributes)
    ), locked AS (
        SELECT incident_id, version FROM incidents
        WHERE incident_id = ANY (:incident_ids) AND state = ANY (:from_states)
        ORDER BY incident_id
        FOR NO KEY UPDATE
    ), resolved AS (
        UPDATE incidents SET
            state = 'RESOLVED',
            resolution_type = asked.resolution_type,
            resolution_note = asked.note,
            resolved_by = asked.actor,
            resolution_number = incidents.resolution_number + 1,
            resolve_time = now(),
            update_time = now(),
            last_progress_time = now(),
            version = incidents.version + 1
        FROM asked JOIN locked USING (incident_id)
        WHERE incidents.incident_id = locked.incident_id AND coalesce(asked.version, locked.version) = locked.version
        RETURNING {_OWN_COLUMNS}, asked.attributes, extract(epoch FROM now() - incidents.open_time)::float8 AS resolution_seconds
    ), events AS (
        INSERT INTO incident_events (event_id, incident_id, type, actor, summary, attributes, resolution_number)
        SELECT 'service:incident/' || incident_id || '/resolved/' || resolution_number, incident_id, 'RESOLVED', resolved_by,
            resolution_note, attributes, resolution_number
        FROM resolved
    ), jobs AS (
        INSERT INTO outbox
            (topic, dedup_key, payload, state, last_error, done_time, attempts, lease_token, next_attempt_time)
        SELECT topic, incident_id || '/' || resolution_number, jsonb_build_object(
                'incident_id', incident_id, 'resolution_number', resolution_number, 'resolution_type', resolution_type,
                'resolution_seconds', resolution_seconds),
            CASE WHEN skip_reason IS NULL THEN 'PENDING' ELSE 'SKIPPED' END, skip_reason,
            CASE WHEN skip_reason IS NULL THEN NULL ELSE now() END,
            CASE WHEN skip_reason IS NULL AND :token IS NOT NULL THEN 1 ELSE 0 END,
            CASE WHEN skip_reason IS NULL THEN :token END,
            now() + make_interval(secs => :lease_seconds)
        FROM resolved CROSS JOIN unnest(:topics, :skip_reasons) AS effect (topic, skip_reason)
        RETURNING dedup_key, topic, job_id, state
    ), mine AS (
        SELECT dedup_key, jsonb_object_agg(topic, job_id) AS jobs
        FROM jobs WHERE state = 'PENDING' AND :token IS NOT NULL GROUP BY dedup_key
    )
    SELECT {COLUMNS}, TRUE AS resolved_here, resolution_seconds, mine.jobs
    FROM resolved LEFT JOIN mine ON mine.dedup_key = incident_id || '/' || resolution_number
    UNION ALL
    SELECT {COLUMNS}, FALSE, NULL, NULL FROM incidents
    WHERE incident_id = ANY (:incident_ids) AND incident_id NOT IN (SELECT incident_id FROM resolved)
    """,
    bindparam("incident_ids", type_=ARRAY(Text)),
    bindparam("resolution_types", type_=ARRAY(Text)),
    bindparam("notes", type_=ARRAY(Text)),
    bindparam("actors", type_=ARRAY(Text)),
    bindparam("versions", type_=ARRAY(BigInteger)),
    bindparam("attributes", type_=ARRAY(JSONB)),
    bindparam("from_states", type_=ARRAY(Text)),
    bindparam("topics", type_=ARRAY(Text)),
    bindparam("skip_reasons", type_=ARRAY(Text)),
    bindparam("token", type_=Uuid),
    bindparam("lease_seconds", type_=Float),
    jobs=JSONB,
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a resolve found: by id the incidents resolved here, and the others that exist, as they were before.

    An id in neither is unknown. `jobs` are the side effects queued under the lease asked for.
    """

    here: Mapping[str, Incident]
    others: Mapping[str, Incident]
    jobs: Sequence[Job]


async def resolve(
    connection: AsyncConnection,
    commands: Sequence[Resolve],
    effects: Mapping[Effect, str | None],
    *,
    lease: timedelta | None,
) -> Resolved:
    """Resolve incidents, each named once, and queue `effects` for those that were resolved here.

    An effect with a reason is born SKIPPED. With `lease` the others are born in the caller's hands, as if claimed.
    """
    token = uuid.uuid4() if lease is not None else None
    rows = await connection.execute(
        _RESOLVE,
        {
            "incident_ids": [command.incident_id for command in commands],
            "resolution_types": [command.resolution_type for command in commands],
            "notes": [command.note for command in commands],
            "actors": [command.actor for command in commands],
            "versions": [_version(command.etag) for command in commands],
            "attributes": [dict(command.attributes()) for command in commands],
            "from_states": list(ALLOWED_FROM[Transition.RESOLVE]),
            "topics": [effect.topic for effect in effects],
            "skip_reasons": list(effects.values()),
            "token": token,
            "lease_seconds": 0.0 if lease is None else lease.total_seconds(),
        },
    )
    here: dict[str, Incident] = {}
    others: dict[str, Incident] = {}
    queued: list[Job] = []
    for *columns, resolved_here, seconds, jobs in rows:
        incident = to_incident(columns)
        (here if resolved_here else others)[incident.incident_id] = incident
        if token is not None and jobs is not None:
            queued.extend(_effect_jobs(incident, seconds, jobs, token))
    return Resolved(here, others, queued)


def _effect_jobs(
    incident: Incident, seconds: float, jobs: Mapping[str, int], token: uuid.UUID
) -> Sequence[Job]:
    # The payload that the statement wrote.
    payload = {
        "incident_id": incident.incident_id,
        "resolution_number": incident.resolution_number,
        "resolution_type": incident.resolution_type,
        "resolution_seconds": seconds,
    }
    key = f"{incident.incident_id}/{incident.resolution_number}"
    return [Job(job_id, topic, key, payload, 1, token) for topic, job_id in jobs.items()]


# No row ever has it: an etag that this service did not make matches nothing.
_NO_VERSION = -1
_MOST_VERSION_DIGITS = 18


def _version(etag: str) -> int | None:
    if not etag:
        return None
    readable = etag.isascii() and etag.isdigit() and len(etag) <= _MOST_VERSION_DIGITS
    version = int(etag) if readable else _NO_VERSION
    # As this service writes it: 01 is not 1.
    return version if str(version) == etag else _NO_VERSION


_REOPEN = incident_statement(f"""
    UPDATE incidents SET
        state = 'OPEN', open_time = now(), last_progress_time = now(), update_time = now(), version = version + 1,
        investigate_time = NULL, resolve_time = NULL, resolution_type = NULL, resolution_note = '', resolved_by = ''
    WHERE incident_id = :incident_id
    RETURNING {COLUMNS}
""")
_FINGERPRINT_INDEX = "incidents_unresolved_fingerprint"


async def reopen(connection: AsyncConnection, incident_id: str) -> Incident:
    """Bring a locked RESOLVED incident back to OPEN.

    Raises FingerprintTakenError when another unresolved incident has its fingerprint; the transaction is then over.
    """
    try:
        return to_incident((await connection.execute(_REOPEN, {"incident_id": incident_id})).one())
    except IntegrityError as exc:
        if constraint_name(exc) == _FINGERPRINT_INDEX:
            raise FingerprintTakenError(incident_id) from exc
        raise
