"""An index of the requests of an incident: without it, removing an incident reads the requests of all."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX create_requests_incident ON create_requests (incident_id)")


def downgrade() -> None:
    op.execute("DROP INDEX create_requests_incident")
