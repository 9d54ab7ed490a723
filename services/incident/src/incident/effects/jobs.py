"""The side effects as an operator sees them: the outbox's jobs, listed and put back, and the postmortems."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from incident.model import Effect, Postmortem, ResolutionType, SideEffect, SideEffectState
from servicekit.outbox import jobs

_COLUMNS = "job_id, topic, payload, state, attempts, last_error, create_time, next_attempt_time, done_time"
_EFFECT_OF = {effect.topic: effect for effect in Effect}
_NEWEST = 2**63 - 1

_LIST = (
    text(f"""
    SELECT {_COLUMNS} FROM outbox
    WHERE topic = ANY (:topics)
        AND (cardinality(:states) = 0 OR state = ANY (:states))
        AND job_id < :before
    ORDER BY job_id DESC LIMIT :limit
""")
    .bindparams(bindparam("topics", type_=ARRAY(Text)), bindparam("states", type_=ARRAY(Text)))
    .columns(payload=JSONB)
)
# An incident's own jobs are found through the unique index on (topic, dedup_key): its resolution numbers are known.
_LIST_OF_INCIDENT = (
    text(f"""
    SELECT {_COLUMNS} FROM outbox
    WHERE topic = ANY (:topics)
        AND dedup_key IN (SELECT :incident_id || '/' || number FROM generate_series(1, :resolution_number) AS number)
        AND (cardinality(:states) = 0 OR state = ANY (:states))
        AND job_id < :before
    ORDER BY job_id DESC LIMIT :limit
""")
    .bindparams(
        bindparam("topics", type_=ARRAY(Text)),
        bindparam("states", type_=ARRAY(Text)),
        bindparam("incident_id", type_=Text),
    )
    .columns(payload=JSONB)
)


async def list_side_effects(
    connection: AsyncConnection,
    *,
    of_incident: tuple[str, int] | None,
    states: Sequence[SideEffectState],
    effects: Sequence[Effect],
    before: int | None,
    limit: int,
) -> Sequence[SideEffect]:
    """Return at most `limit` side effects, newest first, those older than the sequence number `before` when given.

    `of_incident` is an incident's id and its latest resolution number. What is empty or None does not narrow.
    """
    parameters: dict[str, object] = {
        "topics": [effect.topic for effect in effects or tuple(Effect)],
        "states": list(states),
        "before": _NEWEST if before is None else before,
        "limit": limit,
    }
    if of_incident is None:
        rows = await connection.execute(_LIST, parameters)
    else:
        incident_id, number = of_incident
        rows = await connection.execute(
            _LIST_OF_INCIDENT, {**parameters, "incident_id": incident_id, "resolution_number": number}
        )
    return [_side_effect(row) for row in rows]


_LIST_WAITING = (
    text(f"""
    SELECT {_COLUMNS} FROM outbox
    WHERE topic = ANY (:topics) AND state IN ('PENDING', 'PARKED')
    ORDER BY state, create_time, job_id LIMIT :limit
""")
    .bindparams(bindparam("topics", type_=ARRAY(Text)))
    .columns(payload=JSONB)
)


async def list_waiting(connection: AsyncConnection, *, limit: int) -> Sequence[SideEffect]:
    """Return at most `limit` side effects that are PARKED, then PENDING ones, oldest first."""
    rows = await connection.execute(
        _LIST_WAITING, {"topics": [effect.topic for effect in Effect], "limit": limit}
    )
    return [_side_effect(row) for row in rows]


_GET_FOR_UPDATE = text(
    f"SELECT {_COLUMNS} FROM outbox WHERE topic = :topic AND dedup_key = :dedup_key FOR NO KEY UPDATE"
).columns(payload=JSONB)


async def get_for_update(
    connection: AsyncConnection, incident_id: str, effect: Effect, resolution_number: int
) -> SideEffect | None:
    """Return a side effect, locked so that its state cannot change before the transaction ends; None when unknown."""
    row = (
        await connection.execute(
            _GET_FOR_UPDATE, {"topic": effect.topic, "dedup_key": f"{incident_id}/{resolution_number}"}
        )
    ).one_or_none()
    return None if row is None else _side_effect(row)


async def requeue(
    connection: AsyncConnection, incident_id: str, effect: Effect, resolution_number: int
) -> None:
    """Re-queue a PARKED (dead-lettered) side effect, due now; a PENDING one stays as it is."""
    job = await jobs.get_by_key_for_update(connection, effect.topic, f"{incident_id}/{resolution_number}")
    if job is not None:
        await jobs.requeue(connection, job)


_POSTMORTEM = text("""
    SELECT incident_id, resolution_number, resolution_type, markdown, create_time FROM postmortems
    WHERE incident_id = :incident_id AND resolution_number = :resolution_number
""")


async def get_postmortem(
    connection: AsyncConnection, incident_id: str, resolution_number: int
) -> Postmortem | None:
    """Return what was written about a RESOLVED transition, or None."""
    row = (
        await connection.execute(
            _POSTMORTEM, {"incident_id": incident_id, "resolution_number": resolution_number}
        )
    ).one_or_none()
    if row is None:
        return None
    return Postmortem(row[0], row[1], ResolutionType(row[2]), row[3], row[4])


def _side_effect(row: Sequence[Any]) -> SideEffect:
    job_id, topic, payload, state, attempts, last_error, create_time, next_attempt_time, done_time = row
    return SideEffect(
        incident_id=payload["incident_id"],
        effect=_EFFECT_OF[topic],
        resolution_number=payload["resolution_number"],
        state=SideEffectState(state),
        attempts=attempts,
        last_error=last_error or "",
        create_time=create_time,
        next_attempt_time=next_attempt_time,
        done_time=done_time,
        sequence=job_id,
    )
