"""What may be set for a client and overridden for a call."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias, TypedDict

from awoooi.client.retry import Attempts, RetryPolicy

DEFAULT_TIMEOUT = 10.0
_ACTOR_METADATA_KEY = "awoooi-actor"
_AUTHORIZATION_METADATA_KEY = "authorization"

# A bearer token, or a function that returns the current one: it is called for each call.
Token: TypeAlias = str | Callable[[], str]


class CallOptions(TypedDict, total=False):
    """What every method takes besides its fields; what is left out is the client's."""

    # Seconds for the whole call, retries included; of a listing for each page, of a stream for each opening.
    timeout: float
    # The caller's name, where the server has no authentication.
    actor: str
    # The caller's bearer token. It is sent as it is: over TLS, or to a server on this machine.
    token: Token
    retry: RetryPolicy


@dataclass(frozen=True, slots=True)
class Defaults:
    """A client's own options."""

    timeout: float
    actor: str
    retry: RetryPolicy
    token: Token = field(default="", repr=False)

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
        token = options.get("token", self.token)
        bearer = token if isinstance(token, str) else token()
        return (
            *(((_ACTOR_METADATA_KEY, actor),) if actor else ()),
            *(((_AUTHORIZATION_METADATA_KEY, f"Bearer {bearer}"),) if bearer else ()),
        )
