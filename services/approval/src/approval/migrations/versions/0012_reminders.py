"""When people were reminded that an approval waits for a decision."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Nullable: no rewrite, and the version before this one inserts without the column.
    op.execute("ALTER TABLE approvals ADD COLUMN reminder_time timestamptz")
    op.execute("""
        CREATE INDEX approvals_reminder ON approvals (create_time) WHERE state = 'PENDING' AND reminder_time IS NULL
    """)


def downgrade() -> None:
    op.execute("DROP INDEX approvals_reminder")
    op.execute("ALTER TABLE approvals DROP COLUMN reminder_time")
