"""Readings of sources that are up or down at NOW."""

from datetime import UTC, datetime

from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from metrics_gateway.sources.reading import Reading, Reason
from tests.metrics_gateway.page_responses import NOW

UP_SINCE = datetime(2026, 5, 6, 22, 0, 0, tzinfo=UTC).timestamp()
DOWN_SINCE = datetime(2026, 5, 7, 2, 58, 1, tzinfo=UTC).timestamp()


def up(source: str, response: GetFlywheelStatsResponse) -> Reading:
    """A source with this response."""
    return Reading(source, response, 0.004, NOW.timestamp(), {}, None, UP_SINCE)


def down(source: str, failing: Reason | None = Reason.UNAVAILABLE, last: float = UP_SINCE) -> Reading:
    """A source without a response; `failing` None: its request is still in flight."""
    return Reading(source, None, 0.2, last, {}, failing, DOWN_SINCE)
