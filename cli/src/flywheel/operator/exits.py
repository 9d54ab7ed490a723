"""The exit statuses of the operator's commands; docs/cli.md has them for scripts."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """How a command ended."""

    FAILED = 1
    # A flag or an argument is wrong, or a destructive command has no terminal for its question. Also typer's own.
    USAGE = 2
    # The service cannot be reached, is overloaded, or did not answer in time.
    UNAVAILABLE = 3
    # The credentials are missing or refused, or the role is not enough.
    DENIED = 4
    NOT_FOUND = 5
    # The state does not allow it, or somebody else was first.
    CONFLICT = 6
