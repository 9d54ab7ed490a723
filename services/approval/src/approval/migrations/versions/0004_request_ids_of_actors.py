"""A request id belongs to its caller: what another caller proposed with the same one is no business of theirs."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DROP INDEX approvals_request_id")
    op.execute("""
        CREATE UNIQUE INDEX approvals_request_id ON approvals (request_id, proposed_by) WHERE request_id IS NOT NULL
    """)


def downgrade() -> None:
    op.execute("DROP INDEX approvals_request_id")
    op.execute("""
        UPDATE approvals SET request_id = NULL FROM approvals AS other
        WHERE approvals.request_id = other.request_id AND approvals.proposed_by > other.proposed_by
    """)
    op.execute(
        "CREATE UNIQUE INDEX approvals_request_id ON approvals (request_id) WHERE request_id IS NOT NULL"
    )
