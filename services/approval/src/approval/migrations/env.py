"""Alembic's entry: runs on the connection, and in the transaction, that servicekit.migrations made."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
