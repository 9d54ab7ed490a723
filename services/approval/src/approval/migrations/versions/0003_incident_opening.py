"""The opening of its incident that an approval was proposed for."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A constant default: no rewrite, and the version before this one inserts without the column.
    op.execute("ALTER TABLE approvals ADD COLUMN incident_opening integer NOT NULL DEFAULT 0")


def downgrade() -> None:
    op.execute("ALTER TABLE approvals DROP COLUMN incident_opening")
