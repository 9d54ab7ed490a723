"""The changes of approvals, for Watch."""

from alembic import op
from sqlalchemy import text

from servicekit.watch import epoch_repository

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_REMOVE = """
    CREATE OR REPLACE FUNCTION remove_approvals(approval_ids text[], versions bigint[])
    RETURNS TABLE (approval_id text, state text)
    LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $function$
        {statement}
    $function$
"""
# As the revision before this one has it.
_DELETE = """
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
"""
_DELETE_WITH_CHANGES = f"""
    WITH removed AS ({_DELETE}), changes AS (
        DELETE FROM approval_changes USING removed WHERE approval_changes.approval_id = removed.approval_id
        RETURNING change_time
    ), latest AS (
        INSERT INTO removed_approvals (latest_change_time)
        SELECT max(change_time) FROM changes HAVING count(*) > 0
        ON CONFLICT (is_only) DO UPDATE SET
            latest_change_time = greatest(removed_approvals.latest_change_time, excluded.latest_change_time)
    )
    SELECT removed.approval_id, removed.state FROM removed
"""  # noqa: S608 - constants of this module


def _schema() -> str:
    found: str = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    return found


def upgrade() -> None:
    # No foreign key, which every change would pay for: they are removed with their approval.
    op.execute("""
        CREATE TABLE approval_changes (
            approval_id text,
            sequence bigint GENERATED ALWAYS AS IDENTITY,
            state_before text,
            state_after text NOT NULL,
            change_time timestamptz NOT NULL DEFAULT now(),
            xact_id bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
            PRIMARY KEY (approval_id, sequence)
        )
    """)
    op.execute("CREATE INDEX approval_changes_xact_id ON approval_changes (xact_id, sequence)")
    op.execute("""
        CREATE TABLE removed_approvals (
            is_only boolean PRIMARY KEY DEFAULT TRUE,
            latest_change_time timestamptz NOT NULL,
            CONSTRAINT removed_approvals_is_only CHECK (is_only)
        )
    """)
    for statement in epoch_repository.epoch_tables():
        op.execute(statement)
    # By triggers, so that no statement can forget it, and no process of the version before this one either. What does not
    # change the version, a heartbeat for example, is no change.
    op.execute("""
        CREATE FUNCTION approvals_log_changes() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                INSERT INTO approval_changes (approval_id, state_after) SELECT approval_id, state FROM changed;
            ELSE
                INSERT INTO approval_changes (approval_id, state_before, state_after)
                SELECT changed.approval_id, before.state, changed.state
                FROM changed JOIN before ON before.approval_id = changed.approval_id
                WHERE before.version <> changed.version;
            END IF;
            -- Only while somebody wants it: see change_table.py.
            IF FOUND AND NOT (CASE WHEN pg_try_advisory_lock(hashtext('approval_changes'))
                THEN pg_advisory_unlock(hashtext('approval_changes')) ELSE FALSE END)
            THEN
                PERFORM pg_notify('approval_changes', '');
            END IF;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER approvals_log_insert AFTER INSERT ON approvals
        REFERENCING NEW TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION approvals_log_changes()
    """)
    op.execute("""
        CREATE TRIGGER approvals_log_update AFTER UPDATE ON approvals
        REFERENCING NEW TABLE AS changed OLD TABLE AS before
        FOR EACH STATEMENT EXECUTE FUNCTION approvals_log_changes()
    """)
    op.execute(_REMOVE.format(schema=_schema(), statement=_DELETE_WITH_CHANGES))


def downgrade() -> None:
    op.execute(_REMOVE.format(schema=_schema(), statement=_DELETE))
    op.execute("DROP TRIGGER approvals_log_update ON approvals")
    op.execute("DROP TRIGGER approvals_log_insert ON approvals")
    op.execute("DROP FUNCTION approvals_log_changes")
    op.execute("DROP FUNCTION watch_system_identifier")
    op.execute("DROP TABLE watch_epoch")
    op.execute("DROP TABLE removed_approvals")
    op.execute("DROP TABLE approval_changes")
