"""The actor: the caller's name, which is set by an interceptor and never read from a request's field."""

from contextvars import ContextVar

ANONYMOUS = "anonymous"

_actor: ContextVar[str] = ContextVar("actor", default=ANONYMOUS)


def current_actor() -> str:
    """Return the name of the caller of the RPC that is being served."""
    return _actor.get()


def set_actor(name: str) -> None:
    """Set the caller of the RPC that this task serves."""
    _actor.set(name)
