"""The audit trail; and decisions and executions that are only inserted."""

from alembic import op
from sqlalchemy import text

from servicekit.audit import schema

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TABLES = ("approval_decisions", "auto_repair_executions")


def upgrade() -> None:
    connection = op.get_bind()
    # The functions are theirs who migrate, and name their tables' schema: no search path of a caller leads them elsewhere.
    own_schema = connection.execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    for statement in schema.create_v1("approval", own_schema):
        connection.exec_driver_sql(statement)
    # They are removed with their approval, which this service does not do.
    op.execute("""
        CREATE FUNCTION refuse_change_of_history() RETURNS trigger LANGUAGE plpgsql AS $function$
        BEGIN
            IF TG_OP = 'DELETE' AND NOT EXISTS (SELECT FROM approvals WHERE approval_id = OLD.approval_id) THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION '% is insert-only', TG_TABLE_NAME USING ERRCODE = 'object_not_in_prerequisite_state';
        END
        $function$
    """)
    for table in _TABLES:
        op.execute(f"""
            CREATE TRIGGER {table}_insert_only BEFORE UPDATE OR DELETE ON {table}
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_history()
        """)


def downgrade() -> None:
    for table in _TABLES:
        op.execute(f"DROP TRIGGER {table}_insert_only ON {table}")
    op.execute("DROP FUNCTION refuse_change_of_history()")
    for statement in schema.drop_v1():
        op.execute(statement)
