"""Targets of operations, whose rows are locked; workers are notified by the statement that enqueues, in place of a trigger."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# The statements notify themselves. What a process of the version before enqueues for others is found by their next poll, at the
# latest a second later.
_FUNCTION = """
    CREATE FUNCTION outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM enqueued WHERE lease_token IS NULL) THEN
            PERFORM pg_notify('outbox', '');
        END IF;
        RETURN NULL;
    END $$
"""
_TRIGGER = """
    CREATE TRIGGER outbox_notify AFTER INSERT ON outbox
    REFERENCING NEW TABLE AS enqueued
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_notify()
"""


def upgrade() -> None:
    op.execute("""
        CREATE TABLE targets (
            target text PRIMARY KEY,
            claim_time timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX targets_claim_time ON targets (claim_time)")
    op.execute("DROP TRIGGER outbox_notify ON outbox")
    op.execute("DROP FUNCTION outbox_notify")


def downgrade() -> None:
    op.execute(_FUNCTION)
    op.execute(_TRIGGER)
    op.execute("DROP TABLE targets")
