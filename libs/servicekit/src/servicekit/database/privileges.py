"""What the run-time role may do, where another role owns the tables: no DDL, and no more than the service does.

A table says it by its `info`: `Table(..., info={PRIVILEGES: "SELECT, INSERT"})`. Without, it is read and written.
"""

from typing import Final

from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncConnection

PRIVILEGES: Final = "privileges"
INSERT_ONLY: Final = {PRIVILEGES: "SELECT, INSERT"}
READ_ONLY: Final = {PRIVILEGES: "SELECT"}
_READ_AND_WRITE: Final = "SELECT, INSERT, UPDATE, DELETE"

_QUOTED = text("SELECT quote_ident(:role), quote_ident(current_schema()), current_user = :role")
# Functions that do as the owner what the role may not, within what they allow.
_OWN_FUNCTIONS = text("""
    SELECT oid::regprocedure::text FROM pg_proc
    WHERE pronamespace = CAST(current_schema() AS regnamespace) AND proname IN ('audit_append', 'remove_approvals', 'remove_canary')
""")


async def grant(connection: AsyncConnection, metadata: MetaData, role: str) -> None:
    """Give `role` its privileges on the tables of `metadata`, and no others. Nothing, when it owns them itself."""
    quoted, schema, is_owner = (await connection.execute(_QUOTED, {"role": role})).one()
    if is_owner:
        return
    statements = [f"GRANT USAGE ON SCHEMA {schema} TO {quoted}"]
    tables = {name: table.info.get(PRIVILEGES, _READ_AND_WRITE) for name, table in metadata.tables.items()}
    for name, privileges in {**tables, "alembic_version": "SELECT"}.items():
        # Its rights of an earlier version, and those on columns.
        statements.append(f"REVOKE ALL ON {schema}.{name} FROM {quoted}")
        statements.append(f"GRANT {privileges} ON {schema}.{name} TO {quoted}")
    functions = (await connection.scalars(_OWN_FUNCTIONS)).all()
    statements += [f"GRANT EXECUTE ON FUNCTION {function} TO {quoted}" for function in functions]
    for statement in statements:
        await connection.exec_driver_sql(statement)
