"""Proposals that replace others, and who proposed those."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Nullable, or with a constant default: no rewrite, and the version before this one inserts without the columns.
    op.execute("""
        ALTER TABLE approvals
            ADD COLUMN supersedes text,
            ADD COLUMN superseded_by text,
            ADD COLUMN superseded_proposers text[] NOT NULL DEFAULT '{}'
    """)


def downgrade() -> None:
    op.execute("""
        ALTER TABLE approvals
            DROP COLUMN superseded_proposers, DROP COLUMN superseded_by, DROP COLUMN supersedes
    """)
