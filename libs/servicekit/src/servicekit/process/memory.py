"""Memory that the C library keeps for later."""

import contextlib
import ctypes


def release_free_memory() -> None:
    """Give memory that is free inside this process back to the system; nothing where the C library is not glibc.

    After a flood there may be hundreds of megabytes of it: glibc keeps them for the threads that gRPC used.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
