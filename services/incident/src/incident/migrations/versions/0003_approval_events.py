"""An index of what timelines say about approvals."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE INDEX incident_events_approvals ON incident_events (incident_id, sequence)
        WHERE type IN ('PROPOSED', 'APPROVED', 'REJECTED', 'EXPIRED', 'CANCELLED', 'EXECUTED', 'EXECUTION_FAILED')
    """)


def downgrade() -> None:
    op.execute("DROP INDEX incident_events_approvals")
