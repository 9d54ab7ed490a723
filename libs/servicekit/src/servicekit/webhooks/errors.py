"""Why there is no response to a webhook. No text quotes the URL or the peer: either may hold a token."""

from datetime import timedelta


class NoResponseError(Exception):
    """No response was received."""


class ConnectFailedError(NoResponseError):
    """No connection was made: nothing was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot connect: {reason}")


class ResponseTimeoutError(NoResponseError):
    """The deadline passed; the request may have been received."""

    def __init__(self, timeout: timedelta) -> None:
        super().__init__(f"no answer within {timeout.total_seconds():g} s")
        self.timeout = timeout


class ConnectionFailedError(NoResponseError):
    """The connection broke, or what was received is not HTTP; the request may have been received."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the connection failed: {reason}")
        self.reason = reason
