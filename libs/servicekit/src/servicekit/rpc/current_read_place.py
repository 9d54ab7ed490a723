"""Where a heavy read of the current stream waits for its place: for use cases, which know no gRPC."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import ContextVar

_current: ContextVar[Callable[[], AbstractAsyncContextManager[None]]] = ContextVar(
    "read_place", default=nullcontext
)


def set_read_place(place: Callable[[], AbstractAsyncContextManager[None]]) -> None:
    """Set where the current stream waits for its places."""
    _current.set(place)


def current_read_place() -> AbstractAsyncContextManager[None]:
    """Return a place for a heavy read of the current stream, kept for the block."""
    return _current.get()()
