"""What an HTTP server refuses to start with."""


class CannotListenError(Exception):
    """The address cannot be listened on."""
