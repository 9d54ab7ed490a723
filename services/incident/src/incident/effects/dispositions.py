"""Dispositions: how each RESOLVED transition ended its incident, stored and counted. Nothing here commits."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Double, Integer, Text

from incident.counters import (
    INCIDENTS_RESOLVED,
    RESOLUTION_MILLISECONDS_SUM,
    RESOLUTION_SECONDS_BUCKET,
    resolution_bucket,
)
from incident.lifecycle.effect_jobs import EffectPayload
from servicekit.outbox.transaction import Transaction

_INSERT = text("""
    INSERT INTO dispositions
        (incident_id, resolution_number, resolution_type, severity, resolve_time, resolution_seconds)
    SELECT new.incident_id, new.resolution_number, new.resolution_type, severity, resolved.event_time, seconds
    FROM unnest(:incident_ids, :numbers, :types, :seconds)
        AS new (incident_id, resolution_number, resolution_type, seconds)
    JOIN incidents ON incidents.incident_id = new.incident_id
    JOIN incident_events AS resolved
        ON resolved.event_id = 'service:incident/' || new.incident_id || '/resolved/' || new.resolution_number
""").bindparams(
    bindparam("incident_ids", type_=ARRAY(Text)),
    bindparam("numbers", type_=ARRAY(Integer)),
    bindparam("types", type_=ARRAY(Text)),
    bindparam("seconds", type_=ARRAY(Double)),
)


async def record_dispositions(transaction: Transaction, resolutions: Sequence[EffectPayload]) -> None:
    """Store how each transition ended its incident, and raise the counters behind the stats."""
    await transaction.connection.execute(
        _INSERT,
        {
            "incident_ids": [resolution.incident_id for resolution in resolutions],
            "numbers": [resolution.resolution_number for resolution in resolutions],
            "types": [resolution.resolution_type for resolution in resolutions],
            "seconds": [resolution.resolution_seconds for resolution in resolutions],
        },
    )
    for (name, label), amount in count_resolutions(resolutions).items():
        transaction.count(name, label, amount)


def count_resolutions(resolutions: Iterable[EffectPayload]) -> Mapping[tuple[str, str], int]:
    """Return the amount by which these resolutions raise each counter, by (name, label)."""
    amounts: Counter[tuple[str, str]] = Counter()
    for resolution in resolutions:
        seconds = resolution.resolution_seconds
        amounts[INCIDENTS_RESOLVED, resolution.resolution_type] += 1
        amounts[RESOLUTION_SECONDS_BUCKET, resolution_bucket(seconds)] += 1
        amounts[RESOLUTION_MILLISECONDS_SUM, ""] += round(seconds * 1000)
    return amounts
