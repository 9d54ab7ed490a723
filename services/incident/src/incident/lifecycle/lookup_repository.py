"""The statement that looks incidents up. Nothing here commits."""

from collections.abc import Sequence

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import DateTime, Integer, Text

from incident.lifecycle.model import Lookup, LookupResult
from incident.lifecycle.resolve_repository import OPENING_IS_OVER
from incident.model import State, opening_of

# Every table is read by its key.
_LOOK_UP = text(f"""
    SELECT command.incident_id, state, resolution_number, openings,
        state <> 'RESOLVED' AND NOT coalesce({OPENING_IS_OVER}, FALSE)
    FROM unnest(:incident_ids, :approval_ids, :openings, :execute_times) WITH ORDINALITY
        AS command (incident_id, approval_id, opening, execute_time, position)
    LEFT JOIN incidents ON incidents.incident_id = command.incident_id
    LEFT JOIN removed_incidents ON removed_incidents.incident_id = command.incident_id
    ORDER BY command.position
""").bindparams(
    bindparam("incident_ids", type_=ARRAY(Text)),
    bindparam("approval_ids", type_=ARRAY(Text)),
    bindparam("openings", type_=ARRAY(Integer)),
    bindparam("execute_times", type_=ARRAY(DateTime(timezone=True))),
)


async def look_up(connection: AsyncConnection, items: Sequence[Lookup]) -> Sequence[LookupResult]:
    """Return what is known of each item's incident, in order."""
    rows = await connection.execute(
        _LOOK_UP,
        {
            "incident_ids": [item.incident_id for item in items],
            "approval_ids": [item.approval_id for item in items],
            "openings": [item.opening for item in items],
            "execute_times": [item.execute_time for item in items],
        },
    )
    return [_result(*row) for row in rows]


def _result(
    incident_id: str,
    state: str | None,
    resolution_number: int | None,
    removed_openings: int | None,
    is_resolvable: bool | None,
) -> LookupResult:
    if state is not None and resolution_number is not None:
        opening = opening_of(resolution_number, State(state))
        return LookupResult(incident_id, State(state), opening, False, bool(is_resolvable))
    if removed_openings is not None:
        return LookupResult(incident_id, State.RESOLVED, removed_openings, True, False)
    return LookupResult(incident_id, None, 0, False, False)
