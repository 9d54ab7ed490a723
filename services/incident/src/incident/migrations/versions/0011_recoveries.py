"""The index of what timelines say about approvals: also whether the alert was gone after a repair."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_OLD = "'PROPOSED', 'APPROVED', 'REJECTED', 'EXPIRED', 'CANCELLED', 'EXECUTED', 'EXECUTION_FAILED'"


def _replace(types: str) -> None:
    op.execute("ALTER INDEX incident_events_approvals RENAME TO incident_events_approvals_before")
    op.execute(f"""
        CREATE INDEX incident_events_approvals ON incident_events (incident_id, sequence) WHERE type IN ({types})
    """)
    op.execute("DROP INDEX incident_events_approvals_before")


def upgrade() -> None:
    # The version before this one reads the timeline's own index instead: slower, and right.
    _replace(f"{_OLD}, 'RECOVERED', 'NOT_RECOVERED'")


def downgrade() -> None:
    _replace(_OLD)
