"""Who re-queued a dead letter, and who dismissed one and why."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Nullable: no rewrite, and the version before this one inserts without the columns.
    op.execute("""
        ALTER TABLE outbox ADD COLUMN requeued_by text, ADD COLUMN dismissed_by text, ADD COLUMN dismiss_reason text
    """)
    op.execute("CREATE INDEX outbox_dismissed ON outbox (topic) WHERE dismissed_by IS NOT NULL")


def downgrade() -> None:
    op.execute("DROP INDEX outbox_dismissed")
    op.execute("""
        ALTER TABLE outbox DROP COLUMN dismiss_reason, DROP COLUMN dismissed_by, DROP COLUMN requeued_by
    """)
