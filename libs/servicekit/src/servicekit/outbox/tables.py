"""The outbox table."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

# The statement that inserts jobs notifies here, at its commit.
NOTIFY_CHANNEL = "outbox"


def define_outbox_table(metadata: MetaData, *, keeps_done: bool, listed_by_prefix: bool = False) -> Table:
    """Define the table `outbox` in `metadata`; where its worker removes done jobs, `keeps_done` is false.

    `listed_by_prefix` where jobs are listed by how their dedup keys begin.

    States: PENDING (to be delivered; in a worker's hands while it has a lease token), DONE, SKIPPED (not wanted,
    `last_error` has the reason), PARKED (dead-lettered until an operator re-queues or dismisses it). A job that an operator
    dismissed is DONE with `dismissed_by`: earlier versions of a service, which run side by side, know these states alone.
    """
    now = text("now()")
    # An index entry for every job that is done is paid only where something looks for them.
    by_done_time = Index("outbox_done", "done_time", postgresql_where=text("state IN ('DONE', 'SKIPPED')"))
    # COLLATE "C" in the migration, which is not compared.
    by_key_bytes = Index("outbox_dedup_key_bytes", "dedup_key")
    return Table(
        "outbox",
        metadata,
        Column("job_id", BigInteger, Identity(always=True), primary_key=True),
        Column("topic", Text, nullable=False),
        # Unique within its topic as long as the row is there: enqueuing the same intent twice is one intent.
        Column("dedup_key", Text, nullable=False),
        # The incident that it is about, by which a store would be divided; null in rows of versions before 0015.
        Column("incident_id", Text),
        Column("payload", JSONB, nullable=False),
        Column("state", Text, nullable=False, server_default="PENDING"),
        # Raised at claim, not at failure: a job that kills its worker is counted too.
        Column("attempts", Integer, nullable=False, server_default="0"),
        # Claims in a row that ended with neither done nor failed: the worker died or froze.
        Column("crashes", Integer, nullable=False, server_default="0"),
        Column("lease_token", Uuid),
        # When the job may be claimed: after a backoff, or, while it is leased, when the lease ends.
        Column("next_attempt_time", DateTime(timezone=True), nullable=False, server_default=now),
        Column("last_error", Text),
        Column("create_time", DateTime(timezone=True), nullable=False, server_default=now),
        Column("done_time", DateTime(timezone=True)),
        # The operator that re-queued it last.
        Column("requeued_by", Text),
        # The operator that dismissed it, and why; when is `done_time`.
        Column("dismissed_by", Text),
        Column("dismiss_reason", Text),
        UniqueConstraint("topic", "dedup_key", name="outbox_topic_dedup_key"),
        CheckConstraint("state IN ('PENDING', 'DONE', 'SKIPPED', 'PARKED')", name="outbox_state"),
        # The claim reads a topic's due jobs in order; the done rows, which are the many, are not in it.
        Index("outbox_due", "topic", "next_attempt_time", postgresql_where=text("state = 'PENDING'")),
        Index("outbox_parked", "topic", postgresql_where=text("state = 'PARKED'")),
        # Dead letters, newest first, and those that were parked first.
        Index("outbox_parked_job_id", "job_id", postgresql_where=text("state = 'PARKED'")),
        Index("outbox_parked_time", "next_attempt_time", postgresql_where=text("state = 'PARKED'")),
        Index("outbox_dismissed", "topic", postgresql_where=text("dismissed_by IS NOT NULL")),
        *([] if keeps_done else [by_done_time]),
        *([by_key_bytes] if listed_by_prefix else []),
    )
