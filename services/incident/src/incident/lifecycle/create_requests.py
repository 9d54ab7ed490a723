"""The answered Creates by request id: they make Create idempotent. Nothing here commits."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from incident.lifecycle.model import CreateResult, NewIncident
from servicekit.database.errors import constraint_name

# Names of the version before this one may have capitals.
_GET = text("""
    SELECT content_hash, incident_id, deduplicated FROM create_requests
    WHERE request_id = :key AND lower(actor COLLATE "C") IN (:actor, '')
    ORDER BY actor = :actor DESC, actor DESC LIMIT 1
""")
_INSERT = text("""
    INSERT INTO create_requests (request_id, actor, content_hash, incident_id, deduplicated)
    VALUES (:key, :actor, :hash, :incident_id, :deduplicated)
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


async def get(connection: AsyncConnection, new: NewIncident, *, actor: str) -> AnsweredCreate | None:
    """Return the Create that `new` repeats: with the actor's request id, or with an incident id that was deduplicated."""
    for key in _keys(new):
        row = (await connection.execute(_GET, {"key": key, "actor": actor})).one_or_none()
        if row is not None:
            return AnsweredCreate(*row)
    return None


async def insert(connection: AsyncConnection, new: NewIncident, result: CreateResult, *, actor: str) -> None:
    """Record the response to a Create, as far as a retry can name it.

    Raises ConcurrentCreateError when another call with its id committed first; the transaction is then over.
    """
    content = {
        "hash": new.request_hash(),
        "incident_id": result.incident.incident_id,
        "deduplicated": result.deduplicated,
    }
    try:
        if new.request_id:
            await connection.execute(_INSERT, {**content, "key": new.request_id, "actor": actor})
        if new.incident_id and result.deduplicated:
            await connection.execute(_INSERT, {**content, "key": _id_key(new), "actor": ""})
    except IntegrityError as exc:
        if constraint_name(exc) == _KEY:
            raise ConcurrentCreateError from exc
        raise


def _keys(new: NewIncident) -> Sequence[str]:
    return [key for key in (new.request_id, new.incident_id and _id_key(new)) if key]


def _id_key(new: NewIncident) -> str:
    # An incident with this id does not exist; the space keeps it apart from the request ids.
    return f" {new.incident_id}"
