"""Runs alembic on a connection. Apart, since alembic is loaded by those alone who change a schema."""

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def upgrade(connection: Connection, script_location: str, revision: str) -> None:
    """Run the migrations up to `revision`, in the transaction of the connection."""
    command.upgrade(_config(connection, script_location), revision)


def downgrade(connection: Connection, script_location: str, revision: str) -> None:
    """Undo the migrations after `revision`, in the transaction of the connection."""
    command.downgrade(_config(connection, script_location), revision)


def _config(connection: Connection, script_location: str) -> Config:
    config = Config()
    config.set_main_option("script_location", script_location)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
