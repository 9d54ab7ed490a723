"""The audit trail; and events that are only inserted."""

from alembic import op
from sqlalchemy import text

from servicekit.audit import schema

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    # The functions are theirs who migrate, and name their tables' schema: no search path of a caller leads them elsewhere.
    own_schema = connection.execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    for statement in schema.create_v1("incident", own_schema):
        connection.exec_driver_sql(statement)
    # Watch sets transaction ids of another cluster to 0. An event is removed with its incident, by retention.
    op.execute("""
        CREATE FUNCTION incident_events_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $function$
        DECLARE
            other incident_events := OLD;
        BEGIN
            IF TG_OP = 'UPDATE' THEN
                other.xact_id := NEW.xact_id;
                IF NEW IS NOT DISTINCT FROM other THEN
                    RETURN NEW;
                END IF;
            ELSIF NOT EXISTS (SELECT FROM incidents WHERE incident_id = OLD.incident_id) THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'incident_events is insert-only' USING ERRCODE = 'object_not_in_prerequisite_state';
        END
        $function$
    """)
    op.execute("""
        CREATE TRIGGER incident_events_insert_only BEFORE UPDATE OR DELETE ON incident_events
        FOR EACH ROW EXECUTE FUNCTION incident_events_refuse_change()
    """)


def downgrade() -> None:
    op.execute("DROP TRIGGER incident_events_insert_only ON incident_events")
    op.execute("DROP FUNCTION incident_events_refuse_change()")
    for statement in schema.drop_v1():
        op.execute(statement)
