"""Ids of incidents that retention has removed: a caller can tell them from incidents that a restore has lost."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE removed_incidents (
            incident_id text PRIMARY KEY,
            openings integer NOT NULL,
            remove_time timestamptz NOT NULL DEFAULT now()
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE removed_incidents")
