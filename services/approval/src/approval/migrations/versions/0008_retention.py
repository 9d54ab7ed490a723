"""Retention removes approvals by a function of the tables' owner: the role that serves may delete nothing else."""

from alembic import op
from sqlalchemy import text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    own_schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    # Decisions and executions go by cascade. An approval that another transaction has locked, or has changed, stays; so does
    # one that may yet change, that is not acknowledged, or that is in the figures of the last day, for every caller.
    op.execute(f"""
        CREATE FUNCTION remove_approvals(approval_ids text[], versions bigint[])
        RETURNS TABLE (approval_id text, state text)
        LANGUAGE sql SECURITY DEFINER SET search_path = {own_schema}, pg_temp AS $function$
            DELETE FROM approvals USING (
                SELECT approvals.approval_id FROM unnest(approval_ids, versions) AS chosen (approval_id, version)
                JOIN approvals ON approvals.approval_id = chosen.approval_id AND approvals.version = chosen.version
                WHERE (approvals.state IN ('REJECTED', 'EXPIRED', 'CANCELLED', 'FAILED')
                        OR approvals.state = 'SUCCEEDED' AND incident_resolve_time IS NOT NULL)
                    AND (finish_time IS NULL OR finish_time < now() - interval '24 hours')
                ORDER BY approvals.approval_id
                FOR UPDATE OF approvals SKIP LOCKED
            ) AS old
            WHERE approvals.approval_id = old.approval_id
            RETURNING approvals.approval_id, approvals.state
        $function$
    """)  # noqa: S608 - the schema's quoted name
    op.execute("REVOKE ALL ON FUNCTION remove_approvals(text[], bigint[]) FROM PUBLIC")


def downgrade() -> None:
    op.execute("DROP FUNCTION remove_approvals(text[], bigint[])")
