"""Watch compares transaction ids, which mean something in one cluster only: which one the stored ids are of."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Its one row is written by the first process that serves Watch: in a restored database the ids may be foreign already.
    op.execute("""
        CREATE TABLE watch_epoch (
            is_only boolean PRIMARY KEY DEFAULT TRUE,
            epoch text NOT NULL,
            system_identifier bigint,
            database_oid bigint NOT NULL,
            table_oid bigint NOT NULL,
            foreign_from bigint,
            CONSTRAINT watch_epoch_is_only CHECK (is_only)
        )
    """)
    # Some providers withhold the function: then the oids alone tell databases apart.
    op.execute("""
        CREATE FUNCTION watch_system_identifier() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
        BEGIN
            RETURN (SELECT system_identifier FROM pg_catalog.pg_control_system());
        EXCEPTION
            WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN RETURN NULL;
        END $$
    """)


def downgrade() -> None:
    op.execute("DROP FUNCTION watch_system_identifier")
    op.execute("DROP TABLE watch_epoch")
