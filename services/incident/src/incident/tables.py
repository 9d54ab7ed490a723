"""The incident service's tables. The migrations create them; a test keeps the two equal."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR

from servicekit.audit.tables import define_audit_tables
from servicekit.database.counters import define_counters_table
from servicekit.database.keys import define_service_keys_table
from servicekit.database.privileges import PRIVILEGES
from servicekit.importing.staging import define_imported_rows_table
from servicekit.outbox.tables import define_outbox_table
from servicekit.watch.tables import define_epoch_table

metadata = MetaData()

_NOW = text("now()")
_UNRESOLVED = text("state <> 'RESOLVED'")

incidents = Table(
    "incidents",
    metadata,
    Column("incident_id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("state", Text, nullable=False),
    # Empty: never deduplicated.
    Column("fingerprint", Text, nullable=False),
    Column("labels", JSONB, nullable=False),
    Column("source", Text, nullable=False),
    Column("occurrence_count", Integer, nullable=False, server_default="1"),
    Column("last_seen_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("create_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    # When it last became OPEN, created or reopened: the start of the time to resolve.
    Column("open_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("update_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("investigate_time", DateTime(timezone=True)),
    Column("resolve_time", DateTime(timezone=True)),
    Column("last_progress_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("resolution_type", Text),
    Column("resolution_note", Text, nullable=False, server_default=""),
    Column("resolved_by", Text, nullable=False, server_default=""),
    Column("resolution_number", Integer, nullable=False, server_default="0"),
    Column("opened_by", Text, nullable=False),
    # Raised by every change; with the time of that, the etag.
    Column("version", BigInteger, nullable=False, server_default="1"),
    # Distinguishes a retry of a Create with the same id from another Create.
    Column("content_hash", Text, nullable=False),
    CheckConstraint("state IN ('OPEN', 'INVESTIGATING', 'RESOLVED')", name="incidents_state"),
    CheckConstraint(
        "(state = 'RESOLVED') = (resolve_time IS NOT NULL AND resolution_type IS NOT NULL)",
        name="incidents_resolved",
    ),
    # At most one unresolved incident for each fingerprint: it deduplicates concurrent Creates.
    Index(
        "incidents_unresolved_fingerprint",
        "fingerprint",
        unique=True,
        postgresql_where=text("state <> 'RESOLVED' AND fingerprint <> ''"),
    ),
    Index("incidents_create_time", "create_time", "incident_id"),
    Index("incidents_update_time", "update_time", "incident_id"),
    # For retention, and for List by the time of resolution.
    Index("incidents_resolve_time", "resolve_time", postgresql_where=text("state = 'RESOLVED'")),
    # What happened to an alert before. By a hash: what looks for the unresolved incident of a fingerprint cannot be planned
    # to read its history.
    Index(
        "incidents_fingerprint",
        text("hashtextextended(fingerprint, 0)"),
        "create_time",
        "incident_id",
        postgresql_where=text("fingerprint <> ''"),
    ),
    # For List in the order of progress, also of resolved ones.
    Index("incidents_progress", "last_progress_time", "incident_id"),
    Index("incidents_unresolved_create_time", "create_time", "incident_id", postgresql_where=_UNRESOLVED),
    Index("incidents_unresolved_update_time", "update_time", "incident_id", postgresql_where=_UNRESOLVED),
    # Unresolved incidents are few: stuck ones are found at a cost that does not grow with history.
    Index(
        "incidents_unresolved_progress",
        "last_progress_time",
        "incident_id",
        "state",
        postgresql_where=_UNRESOLVED,
    ),
)

incident_events = Table(
    "incident_events",
    metadata,
    # The writer's idempotency key. That of the RESOLVED event is derived from incident and resolution number.
    Column("event_id", Text, primary_key=True),
    Column("incident_id", Text, ForeignKey("incidents.incident_id", ondelete="CASCADE"), nullable=False),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    Column("type", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("event_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("summary", Text, nullable=False),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("resolution_number", Integer, nullable=False),
    # The writing transaction. Neither it nor the sequence is the order of commits, but with a snapshot it determines whether an
    # event was visible: Watch finds new events by it.
    Column("xact_id", BigInteger, nullable=False, server_default=text("pg_current_xact_id()::text::bigint")),
    Index("incident_events_timeline", "incident_id", "sequence"),
    Index("incident_events_xact_id", "xact_id", "sequence"),
    # The state at any event, at a cost that does not grow with the other entries of the timeline.
    Index(
        "incident_events_state_changes",
        "incident_id",
        "sequence",
        "type",
        postgresql_where=text("type IN ('OPENED', 'INVESTIGATION_STARTED', 'RESOLVED', 'REOPENED')"),
    ),
    # Why an incident is stuck, at a cost that does not grow with how often it was reported.
    Index(
        "incident_events_approvals",
        "incident_id",
        "sequence",
        postgresql_where=text(
            "type IN ('PROPOSED', 'APPROVED', 'REJECTED', 'EXPIRED', 'CANCELLED', 'EXECUTED', 'EXECUTION_FAILED', "
            "'RECOVERED', 'NOT_RECOVERED')"
        ),
    ),
    # Watch sets transaction ids of another cluster to 0. Rows are removed with their incident.
    info={PRIVILEGES: "SELECT, INSERT, UPDATE (xact_id)"},
)

define_epoch_table(metadata)

create_requests = Table(
    "create_requests",
    metadata,
    # The caller's request id; or, for a Create with an incident id of the caller's choice that was deduplicated, that id
    # behind a space, which no request id has.
    Column("request_id", Text, primary_key=True),
    # Empty: every caller's.
    Column("actor", Text, primary_key=True, server_default=""),
    Column("content_hash", Text, nullable=False),
    Column("incident_id", Text, ForeignKey("incidents.incident_id", ondelete="CASCADE"), nullable=False),
    Column("deduplicated", Boolean, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    # For the removal of an incident.
    Index("create_requests_incident", "incident_id"),
)

removed_incidents = Table(
    "removed_incidents",
    metadata,
    # Resolved incidents that retention has removed: an id that is in neither table was never here.
    Column("incident_id", Text, primary_key=True),
    Column("openings", Integer, nullable=False),
    Column("remove_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
)

postmortems = Table(
    "postmortems",
    metadata,
    Column("incident_id", Text, ForeignKey("incidents.incident_id", ondelete="CASCADE"), primary_key=True),
    Column("resolution_number", Integer, primary_key=True),
    Column("resolution_type", Text, nullable=False),
    Column("markdown", Text, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Index("postmortems_create_time", "create_time", "resolution_type"),
)

dispositions = Table(
    "dispositions",
    metadata,
    Column("incident_id", Text, ForeignKey("incidents.incident_id", ondelete="CASCADE"), primary_key=True),
    Column("resolution_number", Integer, primary_key=True),
    Column("resolution_type", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("resolve_time", DateTime(timezone=True), nullable=False),
    # From opened (or reopened) to resolved.
    Column("resolution_seconds", Double, nullable=False),
    Index("dispositions_resolve_time", "resolve_time", "resolution_type"),
)

knowledge = Table(
    "knowledge",
    metadata,
    # A digest of symptom and resolution: the same problem resolved in the same way is one entry.
    Column("knowledge_id", Text, primary_key=True),
    Column("symptom_key", Text, nullable=False),
    Column("resolution_type", Text, nullable=False),
    Column("action", Text, nullable=False),
    # The incident of the first lesson; the entry outlives it.
    Column("incident_id", Text, nullable=False),
    Column("symptoms", Text, nullable=False),
    Column("resolution", Text, nullable=False),
    Column("use_count", Integer, nullable=False),
    Column("success_count", Integer, nullable=False),
    Column("resolution_seconds_sum", Double, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("update_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column(
        "search",
        TSVECTOR,
        Computed("to_tsvector('english', symptoms || ' ' || resolution)", persisted=True),
        nullable=False,
    ),
    # What is searched for parts of words, and its grams; written by the service when `indexed_digest` is not that of the texts.
    Column("search_text", Text, nullable=False, server_default=""),
    Column("grams", TSVECTOR, nullable=False, server_default=text("''::tsvector")),
    Column("indexed_digest", Text, nullable=False, server_default=""),
    Index("knowledge_search", "search", postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
    Index("knowledge_grams", "grams", postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
    Index(
        "knowledge_unindexed",
        "knowledge_id",
        postgresql_where=text("indexed_digest <> md5(symptoms || E'\\n' || resolution)"),
    ),
    # Half-empty pages let what a resolution counts stay on its page: an entry that has to move is entered into the index
    # of grams once more, hundreds of them.
    postgresql_with={"fillfactor": 50},
)

knowledge_uses = Table(
    "knowledge_uses",
    metadata,
    Column("incident_id", Text, ForeignKey("incidents.incident_id", ondelete="CASCADE"), primary_key=True),
    Column("resolution_number", Integer, primary_key=True),
    Column("knowledge_id", Text, nullable=False),
    # False once the incident was reopened after this resolution.
    Column("held", Boolean, nullable=False),
)

service_keys = define_service_keys_table(metadata)
outbox = define_outbox_table(metadata, keeps_done=True)
counters = define_counters_table(metadata)
define_audit_tables(metadata)
imported_rows = define_imported_rows_table(metadata)
