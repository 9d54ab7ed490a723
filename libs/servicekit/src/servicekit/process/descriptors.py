"""How many connections a process can hold: each is a file descriptor."""

import resource

import structlog

_log = structlog.get_logger()

# Descriptors for everything else: connections to databases and services, files, pipes.
_RESERVED = 128


def usable_connections(limit: int) -> int:
    """Return how many connections a server may accept: `limit`, or fewer when the process may not open so many descriptors.

    The second case is logged: such a server refuses connections earlier than its settings say.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= limit + _RESERVED:
        return limit
    usable = max(1, soft - _RESERVED)
    _log.warning("descriptor_limit_low", limit=soft, connections=usable, wanted=limit + _RESERVED)
    return usable
