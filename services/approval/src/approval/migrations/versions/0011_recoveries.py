"""Whether an operation that worked has helped, and the looks that find out."""

from alembic import op
from sqlalchemy import text

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


# As the revision before this one has it, but for two conditions.
_REMOVE = """
    CREATE OR REPLACE FUNCTION remove_approvals(approval_ids text[], versions bigint[])
    RETURNS TABLE (approval_id text, state text)
    LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $function$
        WITH removed AS (
            DELETE FROM approvals USING (
                SELECT approvals.approval_id FROM unnest(approval_ids, versions) AS chosen (approval_id, version)
                JOIN approvals ON approvals.approval_id = chosen.approval_id AND approvals.version = chosen.version
                WHERE (approvals.state IN ('REJECTED', 'EXPIRED', 'CANCELLED', 'FAILED')
                        OR approvals.state = 'SUCCEEDED' AND {is_over})
                    AND (finish_time IS NULL OR {counted} < now() - interval '24 hours')
                ORDER BY approvals.approval_id
                FOR UPDATE OF approvals SKIP LOCKED
            ) AS old
            WHERE approvals.approval_id = old.approval_id
            RETURNING approvals.approval_id, approvals.state
        ), changes AS (
            DELETE FROM approval_changes USING removed WHERE approval_changes.approval_id = removed.approval_id
            RETURNING change_time
        ), latest AS (
            INSERT INTO removed_approvals (latest_change_time)
            SELECT max(change_time) FROM changes HAVING count(*) > 0
            ON CONFLICT (is_only) DO UPDATE SET
                latest_change_time = greatest(removed_approvals.latest_change_time, excluded.latest_change_time)
        )
        SELECT removed.approval_id, removed.state FROM removed
    $function$
"""
_ACKNOWLEDGED = "incident_resolve_time IS NOT NULL"


def upgrade() -> None:
    # Constant defaults: no rewrite, and the version before this one inserts without the columns.
    op.execute("""
        ALTER TABLE approvals
            ADD COLUMN recovery text NOT NULL DEFAULT '',
            ADD COLUMN recovery_time timestamptz,
            ADD COLUMN recovery_deadline timestamptz,
            ADD COLUMN recovery_message text NOT NULL DEFAULT ''
    """)
    op.execute("""
        CREATE INDEX approvals_recovery_time ON approvals (recovery_time) INCLUDE (recovery)
        WHERE recovery IN ('VERIFIED', 'NOT_RECOVERED')
    """)
    op.execute(
        "CREATE INDEX approvals_recovery_pending ON approvals (approval_id) WHERE recovery = 'PENDING'"
    )
    op.execute("""
        CREATE TABLE recoveries (
            approval_id text PRIMARY KEY REFERENCES approvals (approval_id) ON DELETE CASCADE,
            incident_id text NOT NULL,
            deadline timestamptz NOT NULL,
            next_look_time timestamptz NOT NULL,
            look_token uuid,
            looks_without_alert integer NOT NULL DEFAULT 0,
            reports integer NOT NULL DEFAULT 0,
            later_approval_id text
        )
    """)
    op.execute("CREATE INDEX recoveries_next_look_time ON recoveries (next_look_time)")
    op.execute("CREATE INDEX recoveries_incident ON recoveries (incident_id)")
    op.execute("CREATE INDEX recoveries_deadline ON recoveries (deadline)")
    # A repair that did not help has nothing that could be acknowledged.
    _replace_removal(
        f"({_ACKNOWLEDGED} OR recovery = 'NOT_RECOVERED')", counted="greatest(finish_time, recovery_time)"
    )


def _replace_removal(is_over: str, *, counted: str) -> None:
    """Replace the function of retention.

    `is_over` says of an approval that SUCCEEDED that nothing is left to do; from `counted` on it is in the figures of a day.
    """
    schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    op.execute(_REMOVE.format(schema=schema, is_over=is_over, counted=counted))


def downgrade() -> None:
    _replace_removal(_ACKNOWLEDGED, counted="finish_time")
    op.execute("DROP TABLE recoveries")
    op.execute("DROP INDEX approvals_recovery_pending")
    op.execute("DROP INDEX approvals_recovery_time")
    op.execute("""
        ALTER TABLE approvals DROP COLUMN recovery, DROP COLUMN recovery_time, DROP COLUMN recovery_deadline,
            DROP COLUMN recovery_message
    """)
