"""What a response to a webhook means."""

from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from http import HTTPStatus

# Client errors after which a retry may succeed.
_RETRYABLE = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_MAX_RETRY_AFTER = timedelta(hours=1)
# No date is longer, and a number of so many digits is far beyond an hour.
_MAX_RETRY_AFTER_CHARACTERS = 64


class Verdict(Enum):
    """The outcome of a delivery."""

    ACCEPTED = auto()
    # A retry of the same request would be rejected as well.
    REJECTED = auto()
    RETRY = auto()


@dataclass(frozen=True, slots=True)
class Response:
    """A response: its status, and the wait of its Retry-After. Its text is `answered <status>`."""

    status: int
    retry_after: timedelta = timedelta(0)

    @property
    def verdict(self) -> Verdict:
        """ACCEPTED for 2xx, REJECTED for 4xx other than 408 and 429, RETRY for everything else."""
        if self._is_in(HTTPStatus.OK):
            return Verdict.ACCEPTED
        if self._is_in(HTTPStatus.BAD_REQUEST) and self.status not in _RETRYABLE:
            return Verdict.REJECTED
        return Verdict.RETRY

    def __str__(self) -> str:
        hint = "; redirects are not followed" if self._is_in(HTTPStatus.MULTIPLE_CHOICES) else ""
        return f"answered {self.status}{hint}"

    def _is_in(self, first: HTTPStatus) -> bool:
        return self.status // 100 == first // 100


def parse_retry_after(value: str, *, now: float) -> timedelta:
    """Return the wait of a Retry-After header (seconds, or an HTTP date), at most an hour; 0 when invalid.

    `now` is the Unix time.
    """
    value = value[:_MAX_RETRY_AFTER_CHARACTERS]
    try:
        if value.isascii() and value.isdigit():
            seconds = float(value)
        else:
            seconds = parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError):
        return timedelta(0)
    return timedelta(seconds=min(max(seconds, 0.0), _MAX_RETRY_AFTER.total_seconds()))
