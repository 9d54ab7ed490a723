"""Names of the counters that this service raises, and the buckets of the time to resolve."""

from bisect import bisect_left

# Labelled by severity.
INCIDENTS_OPENED = "incidents_opened"
# Labelled by resolution type.
INCIDENTS_RESOLVED = "incidents_resolved"
# Labelled by effect; the jobs of other versions by OTHER.
SIDE_EFFECTS_DISMISSED = "side_effects_dismissed"
OTHER_EFFECT = "OTHER"
# Labelled by the bucket's upper bound. The buckets are disjoint; reading makes them cumulative.
RESOLUTION_SECONDS_BUCKET = "resolution_seconds_bucket"
RESOLUTION_MILLISECONDS_SUM = "resolution_milliseconds_sum"

# Upper bounds of the time from opened to resolved, in seconds: a minute to a week.
RESOLUTION_BOUNDS_SECONDS = (60, 300, 900, 1800, 3600, 14_400, 43_200, 86_400, 259_200, 604_800)
# The label of the bucket above the last bound.
OVERFLOW_BUCKET = "inf"


def resolution_bucket(seconds: float) -> str:
    """Return the label of the bucket that a time to resolve falls into; a bound belongs to the bucket below it."""
    place = bisect_left(RESOLUTION_BOUNDS_SECONDS, seconds)
    return (
        str(RESOLUTION_BOUNDS_SECONDS[place]) if place < len(RESOLUTION_BOUNDS_SECONDS) else OVERFLOW_BUCKET
    )
