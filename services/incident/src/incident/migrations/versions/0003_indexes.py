"""An index of what timelines say about approvals; none of done side effects, which only went with their incident."""

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
    op.execute("DROP INDEX outbox_done")


def downgrade() -> None:
    op.execute("CREATE INDEX outbox_done ON outbox (done_time) WHERE state IN ('DONE', 'SKIPPED')")
    op.execute("DROP INDEX incident_events_approvals")
