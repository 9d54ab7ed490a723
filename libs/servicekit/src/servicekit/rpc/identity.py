"""The identity of the caller of a call: set by an interceptor, and never read from a field of the request."""

from contextvars import ContextVar
from functools import lru_cache

from servicekit.identity.canonical import ANONYMOUS
from servicekit.identity.identity import Identity
from servicekit.identity.roles import EVERY_ROLE


@lru_cache(maxsize=1024)
def loopback_identity(name: str = ANONYMOUS) -> Identity:
    """Return the identity of a caller on a server without authentication, where every name may do everything."""
    return Identity(name, EVERY_ROLE, "loopback")


# Not the one of a caller without a name, although the two are equal.
_NOBODY = Identity(ANONYMOUS, EVERY_ROLE, "loopback")
_identity: ContextVar[Identity] = ContextVar("identity", default=_NOBODY)


def current_identity() -> Identity:
    """Return the identity of the caller of the RPC that is being served."""
    return _identity.get()


def established_identity() -> Identity | None:
    """Return the same; None as long as it is not known, or could not be."""
    identity = _identity.get()
    return None if identity is _NOBODY else identity


def current_actor() -> str:
    """Return the name of that identity, as records and events have it."""
    return _identity.get().name


def set_identity(identity: Identity) -> None:
    """Set the caller of the RPC that this task serves."""
    _identity.set(identity)
