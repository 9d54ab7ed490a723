"""A request id belongs to its caller: what another caller did with the same one is no business of theirs."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Rows of the version before this one have no actor, now or while it still runs: they are every caller's.
    op.execute("ALTER TABLE create_requests ADD COLUMN actor text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE create_requests DROP CONSTRAINT create_requests_pkey")
    op.execute(
        "ALTER TABLE create_requests ADD CONSTRAINT create_requests_pkey PRIMARY KEY (request_id, actor)"
    )


def downgrade() -> None:
    op.execute("""
        DELETE FROM create_requests USING create_requests AS other
        WHERE create_requests.request_id = other.request_id AND create_requests.actor > other.actor
    """)
    op.execute("ALTER TABLE create_requests DROP CONSTRAINT create_requests_pkey")
    op.execute("ALTER TABLE create_requests DROP COLUMN actor")
    op.execute("ALTER TABLE create_requests ADD CONSTRAINT create_requests_pkey PRIMARY KEY (request_id)")
