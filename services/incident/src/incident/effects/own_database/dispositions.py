"""Counters of how incidents were resolved."""

from collections import Counter
from collections.abc import Iterable, Mapping

from incident.counters import (
    INCIDENTS_RESOLVED,
    RESOLUTION_MILLISECONDS_SUM,
    RESOLUTION_SECONDS_BUCKET,
    resolution_bucket,
)
from incident.lifecycle.effect_jobs import EffectPayload


def count_resolutions(resolutions: Iterable[EffectPayload]) -> Mapping[tuple[str, str], int]:
    """Return the amount by which these resolutions raise each counter, by (name, label)."""
    amounts: Counter[tuple[str, str]] = Counter()
    for resolution in resolutions:
        seconds = resolution.resolution_seconds
        amounts[INCIDENTS_RESOLVED, resolution.resolution_type] += 1
        amounts[RESOLUTION_SECONDS_BUCKET, resolution_bucket(seconds)] += 1
        amounts[RESOLUTION_MILLISECONDS_SUM, ""] += round(seconds * 1000)
    return amounts
