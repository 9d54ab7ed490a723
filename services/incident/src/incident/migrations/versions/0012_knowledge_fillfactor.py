"""Room on the pages of knowledge: an entry that is used again stays on its page, and its indexes are not touched."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # For pages from now on. Those of before gain room as their entries move.
    op.execute("ALTER TABLE knowledge SET (fillfactor = 50)")


def downgrade() -> None:
    op.execute("ALTER TABLE knowledge RESET (fillfactor)")
