"""Indexes of lists: by fingerprint, of what is unresolved, by the last progress; dead letters by when they were parked."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # By a hash, so that no statement on the unresolved incident of a fingerprint can be planned to read its history.
    op.execute("""
        CREATE INDEX incidents_fingerprint ON incidents (hashtextextended(fingerprint, 0), create_time, incident_id)
        WHERE fingerprint <> ''
    """)
    op.execute("""
        CREATE INDEX incidents_unresolved_create_time ON incidents (create_time, incident_id) WHERE state <> 'RESOLVED'
    """)
    op.execute("""
        CREATE INDEX incidents_unresolved_update_time ON incidents (update_time, incident_id) WHERE state <> 'RESOLVED'
    """)
    op.execute("CREATE INDEX incidents_progress ON incidents (last_progress_time, incident_id)")
    op.execute("CREATE INDEX outbox_parked_job_id ON outbox (job_id) WHERE state = 'PARKED'")
    op.execute("CREATE INDEX outbox_parked_time ON outbox (next_attempt_time) WHERE state = 'PARKED'")


def downgrade() -> None:
    op.execute("DROP INDEX outbox_parked_time, outbox_parked_job_id")
    op.execute(
        "DROP INDEX incidents_progress, incidents_unresolved_update_time, incidents_unresolved_create_time,"
        " incidents_fingerprint"
    )
