"""Indexes of lists: of open approvals, of an incident's executions; of what is to be reconciled; of dead letters."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_OPEN = "state IN ('PENDING', 'APPROVED', 'EXECUTING', 'INDETERMINATE')"


def upgrade() -> None:
    op.execute(
        f"CREATE INDEX approvals_open_create_time ON approvals (create_time, approval_id) WHERE {_OPEN}"
    )
    op.execute(
        f"CREATE INDEX approvals_open_update_time ON approvals (update_time, approval_id) WHERE {_OPEN}"
    )
    # Repairs that did not help are never acknowledged: they would be read at every reconciliation.
    op.execute("""
        CREATE INDEX approvals_to_acknowledge ON approvals (finish_time, approval_id)
        WHERE state = 'SUCCEEDED' AND incident_resolve_time IS NULL AND recovery NOT IN ('PENDING', 'NOT_RECOVERED')
    """)
    op.execute("""
        CREATE INDEX auto_repair_executions_incident ON auto_repair_executions (incident_id, execution_id)
    """)
    # For the deliveries of an approval, whose keys begin with its id.
    op.execute('CREATE INDEX outbox_dedup_key_bytes ON outbox (dedup_key COLLATE "C")')
    op.execute("CREATE INDEX outbox_parked_job_id ON outbox (job_id) WHERE state = 'PARKED'")
    op.execute("CREATE INDEX outbox_parked_time ON outbox (next_attempt_time) WHERE state = 'PARKED'")


def downgrade() -> None:
    op.execute("DROP INDEX outbox_parked_time, outbox_parked_job_id, outbox_dedup_key_bytes")
    op.execute("DROP INDEX auto_repair_executions_incident")
    op.execute("DROP INDEX approvals_to_acknowledge, approvals_open_update_time, approvals_open_create_time")
