"""Random keys of a service, made by its first migration and the same in all replicas."""

import asyncio

from sqlalchemy import Column, LargeBinary, MetaData, Table, Text, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from servicekit.database.engine import autocommit
from servicekit.database.errors import is_unavailable
from servicekit.database.failure_log import FailureLog

_RETRY_SECONDS = 1.0
_GET = text("SELECT key FROM service_keys WHERE name = :name")


def define_service_keys_table(metadata: MetaData) -> Table:
    """Define the table `service_keys` in `metadata`."""
    return Table(
        "service_keys",
        metadata,
        Column("name", Text, primary_key=True),
        Column("key", LargeBinary, nullable=False),
    )


async def get_key(connection: AsyncConnection, name: str) -> bytes:
    """Return a key. Raises SQLAlchemy's NoResultFound when there is none of this name."""
    key: bytes = (await connection.execute(_GET, {"name": name})).scalar_one()
    return key


async def wait_for_key(engine: AsyncEngine, name: str) -> bytes:
    """Return a key as soon as the database is reached and migrated."""
    failures = FailureLog("service_key_unavailable", key=name)
    while True:
        try:
            async with autocommit(engine).connect() as connection:
                return await get_key(connection, name)
        except Exception as exc:
            if not is_unavailable(exc):
                raise
            failures.failed(exc)
        await asyncio.sleep(_RETRY_SECONDS)
