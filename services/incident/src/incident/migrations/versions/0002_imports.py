"""What was imported."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE imported_rows (
            row_id text PRIMARY KEY,
            content_hash text NOT NULL,
            import_time timestamptz NOT NULL DEFAULT now()
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE imported_rows")
