"""The answered Creates by request id: they make Create idempotent. Nothing here commits."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from incident.lifecycle.model import NewIncident
from servicekit.database.engine import constraint_name

_GET = text(
    "SELECT content_hash, incident_id, deduplicated FROM create_requests WHERE request_id = :request_id"
)
_INSERT = text("""
    INSERT INTO create_requests (request_id, content_hash, incident_id, deduplicated)
    VALUES (:request_id, :hash, :incident_id, :deduplicated)
""")
_KEY = "create_requests_pkey"


@dataclass(frozen=True, slots=True)
class AnsweredCreate:
    """The response to a Create with a request id: a retry is compared with its content and gets the same response."""

    content_hash: str
    incident_id: str
    deduplicated: bool


class ConcurrentCreateError(Exception):
    """A concurrent Create committed first: a new transaction sees what it wrote."""


async def get(connection: AsyncConnection, request_id: str) -> AnsweredCreate | None:
    """Return the answered Create with this request id, or None."""
    row = (await connection.execute(_GET, {"request_id": request_id})).one_or_none()
    return None if row is None else AnsweredCreate(*row)


async def insert(
    connection: AsyncConnection, new: NewIncident, *, incident_id: str, deduplicated: bool
) -> None:
    """Record the response to a Create with a request id.

    Raises ConcurrentCreateError when another call with it committed first; the transaction is then over.
    """
    try:
        await connection.execute(
            _INSERT,
            {
                "request_id": new.request_id,
                "hash": new.request_hash(),
                "incident_id": incident_id,
                "deduplicated": deduplicated,
            },
        )
    except IntegrityError as exc:
        if constraint_name(exc) == _KEY:
            raise ConcurrentCreateError from exc
        raise
