"""Errors of Watch: those that end a stream, and those that refuse one."""


class WatchError(Exception):
    """A Watch was refused, or has ended."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


class TooManyWatchersError(WatchError):
    """As many streams are open as this process takes."""


class WatcherTooSlowError(WatchError):
    """The changes were not read as fast as they came: open the stream again with this resume_token."""

    def __init__(self, resume_token: str) -> None:
        super().__init__()
        self.resume_token = resume_token


class WatchEndedError(WatchError):
    """The server ends this stream: open it again with the latest resume_token."""

    def __init__(self, resume_token: str) -> None:
        super().__init__()
        self.resume_token = resume_token


class ResumeTokenAheadError(WatchError):
    """The database does not know of what this resume_token has seen: start without it, with include_existing."""


class ResumeTokenOfOtherDatabaseError(WatchError):
    """The database was restored or moved since this resume_token was issued: start without it, with include_existing."""


class FellBehindError(Exception):
    """The next change of this watcher has been dropped from the feed."""


class FeedEndedError(Exception):
    """The feed has ended for this watcher."""
