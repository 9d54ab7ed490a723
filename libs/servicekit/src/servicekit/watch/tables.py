"""The table that the epoch of a service's changes is stored in."""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, MetaData, Table, Text, text


def define_epoch_table(metadata: MetaData) -> None:
    """Define the table `watch_epoch` in `metadata`."""
    Table(
        "watch_epoch",
        metadata,
        # At most one row.
        Column("is_only", Boolean, primary_key=True, server_default=text("TRUE")),
        # In the resume tokens, so that those of another cluster are refused.
        Column("epoch", Text, nullable=False),
        # The cluster, database and table in which the transaction ids of the changes are assigned. Null: not permitted to know.
        Column("system_identifier", BigInteger),
        Column("database_oid", BigInteger, nullable=False),
        Column("table_oid", BigInteger, nullable=False),
        # While ids of another cluster are being removed: from this one on they may be foreign.
        Column("foreign_from", BigInteger),
        CheckConstraint("is_only", name="watch_epoch_is_only"),
    )
