"""The statements on incidents; Resolve has its own file. Nothing here commits.

Rows are locked before the rules are checked; a unique constraint decides every race that a lock cannot.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnClause, TextualSelect, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from incident.errors import FingerprintTakenError
from incident.lifecycle.model import NewIncident
from incident.model import CANARY_LABEL, Incident, ResolutionType, Severity, State
from servicekit.database.errors import constraint_name
from servicekit.database.result_columns import result_columns

COLUMNS = """
    incident_id, title, description, severity, state, fingerprint, labels, source, occurrence_count, last_seen_time,
    create_time, update_time, investigate_time, resolve_time, last_progress_time, resolution_type, resolution_note,
    resolved_by, resolution_number, opened_by, version
"""

# Incident.etag, in SQL.
ETAG_SQL = "version || '-' || to_hex((extract(epoch FROM update_time) * 1000000)::bigint)"

# Incident.is_canary, in SQL.
IS_CANARY_SQL = f"(labels ->> '{CANARY_LABEL}' = 'true' AND fingerprint = '')"


def qualified(columns: str, table: str) -> str:
    """Return a list of columns with the name of their table before each."""
    return ", ".join(f"{table}.{column.strip()}" for column in columns.split(","))


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


def incident_statement(
    sql: str, *parameters: BindParameter[Any], others: Sequence[ColumnClause[Any]] = ()
) -> TextualSelect:
    """Return a statement whose rows hold COLUMNS, then `others`."""
    return text(sql).bindparams(*parameters).columns(*result_columns(COLUMNS, labels=JSONB), *others)


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


# A conflict with any unique constraint (id or fingerprint) inserts no row and does not fail.
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
    """Return the digest of the content that an incident was created with; None when there is no such incident."""
    found: str | None = await connection.scalar(_CONTENT_HASH, {"incident_id": incident_id})
    return found


_COUNT_OCCURRENCE = incident_statement(f"""
    UPDATE incidents SET
        occurrence_count = least(occurrence_count, 2147483646) + 1, last_seen_time = now(), update_time = now(), version = least(version, 9223372036854775806) + 1
    WHERE fingerprint = :fingerprint AND fingerprint <> '' AND state <> 'RESOLVED'
    RETURNING {COLUMNS}
""")


async def count_occurrence(connection: AsyncConnection, fingerprint: str) -> Incident | None:
    """Count one more report of the unresolved incident with this fingerprint; None when there is none."""
    row = (await connection.execute(_COUNT_OCCURRENCE, {"fingerprint": fingerprint})).one_or_none()
    return None if row is None else to_incident(row)


_START_INVESTIGATION = incident_statement(f"""
    UPDATE incidents SET
        state = 'INVESTIGATING', investigate_time = now(), last_progress_time = now(), update_time = now(),
        version = least(version, 9223372036854775806) + 1
    WHERE incident_id = :incident_id
    RETURNING {COLUMNS}
""")


async def start_investigation(connection: AsyncConnection, incident_id: str) -> Incident:
    """Bring an incident that is locked and may be investigated to INVESTIGATING."""
    return to_incident((await connection.execute(_START_INVESTIGATION, {"incident_id": incident_id})).one())


_REOPEN = incident_statement(f"""
    UPDATE incidents SET
        state = 'OPEN', open_time = now(), last_progress_time = now(), update_time = now(), version = least(version, 9223372036854775806) + 1,
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
