"""The severity that the policy saw, for its replay; and approvals of canaries, which are removed once they have ended."""

from alembic import op
from sqlalchemy import text

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    own_schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    # Nullable, and with a constant default: no rewrite, and the version before this one inserts without the columns.
    op.execute("ALTER TABLE approvals ADD COLUMN incident_severity text")
    op.execute("ALTER TABLE approvals ADD COLUMN canary boolean NOT NULL DEFAULT FALSE")
    # As with retention: the role that serves may delete nothing but by the owner's functions.
    op.execute(f"""
        CREATE FUNCTION remove_canary(removed_id text, removed_version bigint) RETURNS TABLE (state text)
        LANGUAGE sql SECURITY DEFINER SET search_path = {own_schema}, pg_temp AS $function$
            WITH removed AS (
                DELETE FROM approvals
                WHERE approval_id = removed_id AND version = removed_version AND canary
                    AND (approvals.state IN ('REJECTED', 'EXPIRED', 'CANCELLED', 'FAILED')
                        OR approvals.state = 'SUCCEEDED' AND incident_resolve_time IS NOT NULL)
                RETURNING approval_id, approvals.state
            ), changes AS (
                DELETE FROM approval_changes USING removed WHERE approval_changes.approval_id = removed.approval_id
                RETURNING change_time
            ), latest AS (
                INSERT INTO removed_approvals (latest_change_time)
                SELECT max(change_time) FROM changes HAVING count(*) > 0
                ON CONFLICT (is_only) DO UPDATE SET
                    latest_change_time = greatest(removed_approvals.latest_change_time, excluded.latest_change_time)
            )
            SELECT removed.state FROM removed
        $function$
    """)  # noqa: S608 - the schema's quoted name
    op.execute("REVOKE ALL ON FUNCTION remove_canary(text, bigint) FROM PUBLIC")


def downgrade() -> None:
    op.execute("DROP FUNCTION remove_canary(text, bigint)")
    op.execute("ALTER TABLE approvals DROP COLUMN canary")
    op.execute("ALTER TABLE approvals DROP COLUMN incident_severity")
