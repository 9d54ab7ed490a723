"""Failpoints: named lines at which a test can kill the process, as `kill -9` would.

Off unless the environment variable FAILPOINTS names them (comma-separated); production code pays one set lookup.
"""

import os
import signal


def failpoint(name: str, detail: str = "") -> None:
    """Kill this process with SIGKILL when FAILPOINTS names `name` or `name:detail`; otherwise do nothing."""
    if _ARMED and (name in _ARMED or f"{name}:{detail}" in _ARMED):
        os.kill(os.getpid(), signal.SIGKILL)


# The one value read at import: a failpoint armed later would make a test depend on timing.
_ARMED = frozenset(filter(None, os.environ.get("FAILPOINTS", "").split(",")))
