"""Approvals whose incident the incident service does not know, after a restore of its database for example."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE approvals
            ADD COLUMN incident_unknown_time timestamptz,
            ADD COLUMN incident_unknown_accepted_by text NOT NULL DEFAULT ''
    """)
    op.execute("""
        CREATE INDEX approvals_incident_unknown ON approvals (create_time, approval_id)
        WHERE incident_unknown_time IS NOT NULL AND incident_unknown_accepted_by = ''
            AND state IN ('PENDING', 'APPROVED', 'EXECUTING', 'INDETERMINATE', 'SUCCEEDED')
    """)


def downgrade() -> None:
    op.execute("DROP INDEX approvals_incident_unknown")
    op.execute(
        "ALTER TABLE approvals DROP COLUMN incident_unknown_time, DROP COLUMN incident_unknown_accepted_by"
    )
