"""What ends a run."""


class HostileError(Exception):
    """The run cannot go on, or found a limit that does not hold."""
