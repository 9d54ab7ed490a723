"""A job that is inserted SKIPPED, as that of an effect that is disabled, wakes no worker."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# Commits that notify follow one another, each with a flush of its own.
_NOTIFY = """
    CREATE OR REPLACE FUNCTION outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM enqueued WHERE lease_token IS NULL{condition}) THEN
            PERFORM pg_notify('outbox', '');
        END IF;
        RETURN NULL;
    END $$
"""


def upgrade() -> None:
    op.execute(_NOTIFY.format(condition=" AND state = 'PENDING'"))


def downgrade() -> None:
    op.execute(_NOTIFY.format(condition=""))
