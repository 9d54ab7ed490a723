"""The tables of the audit trail. The run-time role reads them; it appends by the function audit_append alone."""

from sqlalchemy import BigInteger, Column, DateTime, LargeBinary, MetaData, SmallInteger, Table, Text

from servicekit.database.privileges import READ_ONLY


def define_audit_tables(metadata: MetaData) -> None:
    """Define the tables `audit_chains` and `audit_records` in `metadata`."""
    Table(
        "audit_chains",
        metadata,
        Column("chain", SmallInteger, primary_key=True, autoincrement=False),
        # Of the last record of the chain.
        Column("sequence", BigInteger, nullable=False),
        Column("hash", LargeBinary, nullable=False),
        # Every append rewrites a row: with room on its page the index is not touched.
        postgresql_with={"fillfactor": 10},
        info=READ_ONLY,
    )
    Table(
        "audit_records",
        metadata,
        Column("chain", SmallInteger, primary_key=True, autoincrement=False),
        # Without a gap within its chain.
        Column("sequence", BigInteger, primary_key=True, autoincrement=False),
        # When the record was written.
        Column("time", DateTime(timezone=True), nullable=False),
        Column("actor", Text, nullable=False),
        # How the actor was authenticated.
        Column("method", Text, nullable=False),
        Column("operation", Text, nullable=False),
        # The ids of what it was about, separated by spaces.
        Column("targets", Text, nullable=False),
        Column("outcome", Text, nullable=False),
        Column("code", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("digest", Text, nullable=False),
        Column("calls", BigInteger, nullable=False),
        Column("previous", LargeBinary, nullable=False),
        Column("hash", LargeBinary, nullable=False),
        info=READ_ONLY,
    )
