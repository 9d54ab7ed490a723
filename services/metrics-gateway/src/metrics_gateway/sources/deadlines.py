"""How long a scrape waits for its sources."""

import math
from dataclasses import dataclass

# What Prometheus says about its own patience; see `scrape_timeout` in its configuration.
SCRAPE_TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"

_SHORTEST_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Turns a scraper's patience into a source's deadline. All in seconds."""

    # When the scraper does not say how long it waits, or says something that is no time.
    default: float
    # Never longer than this.
    longest: float
    # How much earlier than the scraper gives up a source must have answered.
    margin: float

    def for_scrape(self, header: str | None) -> float:
        """Return the deadline for a scrape with this value of the scrape timeout header; always positive and finite.

        Of a very short time the margin takes at most half, so that quick sources still have a chance.
        """
        patience = _positive_seconds(header)
        if patience is None:
            return min(self.default, self.longest)
        return max(_SHORTEST_SECONDS, min(self.longest, max(patience - self.margin, patience / 2)))


def _positive_seconds(header: str | None) -> float | None:
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
