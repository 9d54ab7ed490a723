"""A look into a service's audit trail, past the service."""

import hashlib
from collections.abc import Sequence
from typing import Any

import asyncpg
from google.protobuf.message import Message

from flywheel.audit.verification import Problem, Verifier
from servicekit.audit.export import export
from servicekit.database.engine import create_engine
from tests.eventually import eventually

# The transaction that wrote a record is that which wrote the change.
_COLUMNS = (
    "actor, method, operation, targets, outcome, code, reason, digest, calls, xmin::text AS transaction"
)


async def records(url: str, target: str = "", **fields: Any) -> Sequence[asyncpg.Record]:
    """The records about a target, with these fields."""
    conditions = [f"{name} = ${number}" for number, name in enumerate(fields, 2)]
    statement = " AND ".join(["($1 = '' OR $1 = ANY (string_to_array(targets, ' ')))", *conditions])
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(
            f"SELECT {_COLUMNS} FROM audit_records WHERE {statement} ORDER BY time, chain, sequence",  # noqa: S608 - names of the test
            target,
            *fields.values(),
        )
    finally:
        await connection.close()


async def record(url: str, target: str = "", **fields: Any) -> asyncpg.Record:
    """The one record about a target with these fields, once it is written."""
    (found,) = await eventually(lambda: records(url, target, **fields))
    return found


def digest(request: Message) -> str:
    """The digest of a request."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()


async def exported(url: str, service: str) -> list[bytes]:
    """The lines of an export."""
    engine = create_engine(url, application_name="tests", pool_size=1)
    try:
        pages = [page async for page in export(engine, service)]
    finally:
        await engine.dispose()
    return b"".join(pages).splitlines(keepends=True)


async def problems(url: str, service: str) -> list[Problem]:
    """What is wrong with the trail by an export of it."""
    return list(Verifier().problems(await exported(url, service)))
