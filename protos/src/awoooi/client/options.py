"""What may be set for a client and overridden for a call."""

from dataclasses import dataclass
from typing import TypedDict

from awoooi.client.retry import Attempts, RetryPolicy

DEFAULT_TIMEOUT = 10.0
_ACTOR_METADATA_KEY = "awoooi-actor"


class CallOptions(TypedDict, total=False):
    """What every method takes besides its fields; what is left out is the client's."""

    # Seconds for the whole call, retries included; of a listing for each page, of a stream for each opening.
    timeout: float
    # The caller's name, where the server has no authentication.
    actor: str
    retry: RetryPolicy


@dataclass(frozen=True, slots=True)
class Defaults:
    """A client's own options."""

    timeout: float
    actor: str
    retry: RetryPolicy

    def attempts(self, options: CallOptions, *, idempotent: bool = True) -> Attempts:
        """Begin the attempts of one call."""
        return Attempts(
            options.get("retry", self.retry),
            timeout=options.get("timeout", self.timeout),
            idempotent=idempotent,
        )

    def metadata(self, options: CallOptions) -> tuple[tuple[str, str], ...]:
        """Return what is sent beside the request."""
        actor = options.get("actor", self.actor)
        return ((_ACTOR_METADATA_KEY, actor),) if actor else ()
