"""How long a scrape waits for its sources: the scraper's timeout as a deadline."""

import math
from dataclasses import dataclass

# Prometheus sends its `scrape_timeout` in this header.
SCRAPE_TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"

_MIN_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Turns a scraper's timeout into a source's deadline. All in seconds."""

    # The deadline without a header, or with an invalid one.
    default: float
    # Upper bound.
    maximum: float
    # Time reserved before the scraper's timeout for writing the response.
    margin: float

    def for_scrape(self, header: str | None) -> float:
        """Return the deadline for a scrape with this value of the scrape timeout header; always positive and finite.

        The margin takes at most half of a very short timeout, so that fast sources can still respond.
        """
        timeout = _positive_seconds(header)
        if timeout is None:
            return min(self.default, self.maximum)
        return max(_MIN_SECONDS, min(self.maximum, max(timeout - self.margin, timeout / 2)))


def _positive_seconds(header: str | None) -> float | None:
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
