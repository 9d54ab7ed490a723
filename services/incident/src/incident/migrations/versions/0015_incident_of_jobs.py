"""Jobs name the incident that they are about."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without a default and not filled in the rows that are there: those would all be written anew, and what is listed of them
    # has the incident from elsewhere. What the version before inserts has none either.
    op.execute("ALTER TABLE outbox ADD COLUMN incident_id text")


def downgrade() -> None:
    op.execute("ALTER TABLE outbox DROP COLUMN incident_id")
