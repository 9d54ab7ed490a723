"""The approval service's tables. The migrations build them; a test holds the two together."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from servicekit.audit.tables import define_audit_tables
from servicekit.database.counters import define_counters_table
from servicekit.database.keys import define_service_keys_table
from servicekit.database.privileges import INSERT_ONLY, PRIVILEGES, READ_ONLY
from servicekit.importing.staging import define_imported_rows_table
from servicekit.outbox.tables import define_outbox_table
from servicekit.watch.tables import define_epoch_table

metadata = MetaData()

_NOW = text("now()")
_OPEN = text("state IN ('PENDING', 'APPROVED', 'EXECUTING', 'INDETERMINATE')")

approvals = Table(
    "approvals",
    metadata,
    Column("approval_id", Text, primary_key=True),
    Column("incident_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    # What the action was parsed as at Propose; all null, and parse_error set, when it could not be.
    Column("operation_kind", Text),
    Column("resource_kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("replicas", Integer),
    Column("hook", Text, nullable=False),
    Column("parse_error", Text, nullable=False),
    Column("action_hash", Text, nullable=False),
    Column("risk", Text, nullable=False),
    Column("rationale", Text, nullable=False),
    Column("confidence", Double),
    Column("required_approvals", Integer, nullable=False),
    Column("auto_execute", Boolean, nullable=False),
    Column("state", Text, nullable=False, server_default="PENDING"),
    Column("proposed_by", Text, nullable=False),
    Column("incident_verified", Boolean, nullable=False),
    # The opening of the incident that it was proposed for; 0 when that is not known.
    Column("incident_opening", Integer, nullable=False, server_default="0"),
    # What the policy saw; null when it was not known, and before revision 0013.
    Column("incident_severity", Text),
    # Of a canary incident: in no figure, no message to people, removed once it has ended.
    Column("canary", Boolean, nullable=False, server_default=text("FALSE")),
    Column("create_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("update_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("expire_time", DateTime(timezone=True), nullable=False),
    Column("decide_time", DateTime(timezone=True)),
    Column("execute_time", DateTime(timezone=True)),
    Column("finish_time", DateTime(timezone=True)),
    Column("outcome_message", Text, nullable=False, server_default=""),
    Column("cancelled_by", Text, nullable=False, server_default=""),
    # The target of the operation; null when nothing has to be run.
    Column("target", Text),
    # Lets the run that holds it, and no other, finish an EXECUTING operation; a run whose lease has ended is abandoned.
    Column("execution_token", Uuid),
    Column("execution_lease_until", DateTime(timezone=True)),
    # When the incident service acknowledged the resolve: kept here, since done deliveries are removed after a while.
    Column("incident_resolve_time", DateTime(timezone=True)),
    # Since when the incident service does not know the incident, as far as was noticed; and who accepted it as lost.
    Column("incident_unknown_time", DateTime(timezone=True)),
    Column("incident_unknown_accepted_by", Text, nullable=False, server_default=""),
    # The approval that it replaces, which may be removed by now, and the one that replaces it.
    Column("supersedes", Text),
    Column("superseded_by", Text),
    # Who proposed those that it replaces, directly or through others.
    Column("superseded_proposers", ARRAY(Text), nullable=False, server_default="{}"),
    # Whether an operation that worked has helped; empty when there is nothing to verify. `recoveries` has what is PENDING.
    Column("recovery", Text, nullable=False, server_default=""),
    Column("recovery_time", DateTime(timezone=True)),
    Column("recovery_deadline", DateTime(timezone=True)),
    Column("recovery_message", Text, nullable=False, server_default=""),
    # When people were reminded that it waits for a decision.
    Column("reminder_time", DateTime(timezone=True)),
    # Incremented by every change; with the time of that, the etag.
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("request_id", Text),
    # Distinguishes a retry of a Propose from another Propose with the same request id.
    Column("content_hash", Text, nullable=False),
    CheckConstraint(
        "state IN ('PENDING', 'APPROVED', 'REJECTED', 'EXPIRED', 'CANCELLED', 'EXECUTING', 'SUCCEEDED', 'FAILED', "
        "'INDETERMINATE')",
        name="approvals_state",
    ),
    CheckConstraint("(operation_kind IS NULL) = (parse_error <> '')", name="approvals_parsed"),
    Index(
        "approvals_request_id",
        "request_id",
        "proposed_by",
        unique=True,
        postgresql_where=text("request_id IS NOT NULL"),
    ),
    Index("approvals_create_time", "create_time", "approval_id"),
    Index("approvals_update_time", "update_time", "approval_id"),
    Index("approvals_incident", "incident_id", "create_time"),
    # Open approvals are few, however long the history: for the oldest one and for expiry.
    Index("approvals_pending", "create_time", postgresql_where=text("state = 'PENDING'")),
    Index(
        "approvals_reminder",
        "create_time",
        postgresql_where=text("state = 'PENDING' AND reminder_time IS NULL"),
    ),
    # Lists of what is open, however long the history.
    Index("approvals_open_create_time", "create_time", "approval_id", postgresql_where=_OPEN),
    Index("approvals_open_update_time", "update_time", "approval_id", postgresql_where=_OPEN),
    Index("approvals_expiry", "expire_time", postgresql_where=text("state IN ('PENDING', 'APPROVED')")),
    Index("approvals_executing", "execution_lease_until", postgresql_where=text("state = 'EXECUTING'")),
    # The last day's executions by hour.
    Index("approvals_finish_time", "finish_time", postgresql_where=text("finish_time IS NOT NULL")),
    # Succeeded and not yet acknowledged by the incident service.
    Index(
        "approvals_unacknowledged",
        "finish_time",
        "approval_id",
        postgresql_where=text("state = 'SUCCEEDED' AND incident_resolve_time IS NULL"),
    ),
    # Of those, what is to be reconciled: a repair that did not help is never acknowledged.
    Index(
        "approvals_to_acknowledge",
        "finish_time",
        "approval_id",
        postgresql_where=text(
            "state = 'SUCCEEDED' AND incident_resolve_time IS NULL AND recovery NOT IN ('PENDING', 'NOT_RECOVERED')"
        ),
    ),
    Index("approvals_recovery_pending", "approval_id", postgresql_where=text("recovery = 'PENDING'")),
    # The last day's recoveries: their rate is read from the index alone.
    Index(
        "approvals_recovery_time",
        "recovery_time",
        postgresql_include=["recovery"],
        postgresql_where=text("recovery IN ('VERIFIED', 'NOT_RECOVERED')"),
    ),
    Index(
        "approvals_incident_unknown",
        "create_time",
        "approval_id",
        postgresql_where=text(
            "incident_unknown_time IS NOT NULL AND incident_unknown_accepted_by = ''"
            " AND state IN ('PENDING', 'APPROVED', 'EXECUTING', 'INDETERMINATE', 'SUCCEEDED')"
        ),
    ),
    info={PRIVILEGES: "SELECT, INSERT, UPDATE"},
)

approval_decisions = Table(
    "approval_decisions",
    metadata,
    # One decision for each actor: deciding is idempotent, and a quorum counts distinct approvers.
    Column("approval_id", Text, ForeignKey("approvals.approval_id", ondelete="CASCADE"), primary_key=True),
    Column("actor", Text, primary_key=True),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("decide_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("policy_rule", Text, nullable=False, server_default=""),
    info=INSERT_ONLY,
)

auto_repair_executions = Table(
    "auto_repair_executions",
    metadata,
    Column("execution_id", BigInteger, Identity(always=True), primary_key=True),
    Column("approval_id", Text, ForeignKey("approvals.approval_id", ondelete="CASCADE"), nullable=False),
    Column("incident_id", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("operation", JSONB, nullable=False),
    Column("succeeded", Boolean, nullable=False),
    Column("output", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("executor", Text, nullable=False),
    Column("start_time", DateTime(timezone=True), nullable=False),
    Column("finish_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    # The last day's success rate is read from the index alone.
    Index("auto_repair_executions_finish_time", "finish_time", postgresql_include=["succeeded"]),
    Index("auto_repair_executions_approval", "approval_id"),
    Index("auto_repair_executions_incident", "incident_id", "execution_id"),
    # What was done to a target lately.
    Index("auto_repair_executions_target", "target", "finish_time"),
    info=INSERT_ONLY,
)

approval_changes = Table(
    "approval_changes",
    metadata,
    # Without a foreign key, which every change would pay for: they are removed with their approval.
    Column("approval_id", Text, primary_key=True),
    Column("sequence", BigInteger, Identity(always=True), primary_key=True),
    # Null: it was proposed.
    Column("state_before", Text),
    Column("state_after", Text, nullable=False),
    Column("change_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    # The writing transaction. Neither it nor the sequence is the order of commits, but with a snapshot it determines whether a
    # change was visible: Watch finds new changes by it.
    Column("xact_id", BigInteger, nullable=False, server_default=text("pg_current_xact_id()::text::bigint")),
    Index("approval_changes_xact_id", "xact_id", "sequence"),
    # Inserted by the triggers of `approvals`. Watch sets transaction ids of another cluster to 0.
    info={PRIVILEGES: "SELECT, INSERT, UPDATE (xact_id)"},
)

removed_approvals = Table(
    "removed_approvals",
    metadata,
    # At most one row: of what retention has removed.
    Column("is_only", Boolean, primary_key=True, server_default=text("TRUE")),
    Column("latest_change_time", DateTime(timezone=True), nullable=False),
    CheckConstraint("is_only", name="removed_approvals_is_only"),
    info=READ_ONLY,
)

define_epoch_table(metadata)
# A row as long as the recovery of an approval is PENDING: apart, since each look writes it, and its index is small.
recoveries = Table(
    "recoveries",
    metadata,
    Column("approval_id", Text, ForeignKey("approvals.approval_id", ondelete="CASCADE"), primary_key=True),
    Column("incident_id", Text, nullable=False),
    # The end of the window in which the alert has to be gone.
    Column("deadline", DateTime(timezone=True), nullable=False),
    # When the next look is due; while a process looks, when its lease ends.
    Column("next_look_time", DateTime(timezone=True), nullable=False),
    # Lets the process that looks, and no other, record what it found.
    Column("look_token", Uuid),
    # At how many looks in a row the alert was gone.
    Column("looks_without_alert", Integer, nullable=False, server_default="0"),
    # How often the incident had been reported at the last look: one report more is an alert that has come back.
    Column("reports", Integer, nullable=False, server_default="0"),
    # A later operation for the same incident that worked: this one did not help alone.
    Column("later_approval_id", Text),
    Index("recoveries_next_look_time", "next_look_time"),
    Index("recoveries_incident", "incident_id"),
    Index("recoveries_deadline", "deadline"),
)

service_keys = define_service_keys_table(metadata)
# The targets that operations were claimed on lately. A row is locked while the limits of its target are checked.
targets = Table(
    "targets",
    metadata,
    Column("target", Text, primary_key=True),
    Column("claim_time", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Index("targets_claim_time", "claim_time"),
)

outbox = define_outbox_table(metadata, keeps_done=False, listed_by_prefix=True)
counters = define_counters_table(metadata)
define_audit_tables(metadata)
imported_rows = define_imported_rows_table(metadata)
