"""Errors of Watch: those that end a stream, and those that refuse one."""

from incident.errors import IncidentError


class TooManyWatchersError(IncidentError):
    """As many streams are open as this process takes."""


class WatcherTooSlowError(IncidentError):
    """The changes were not read as fast as they came: open the stream again with this resume_token."""

    def __init__(self, resume_token: str) -> None:
        super().__init__()
        self.resume_token = resume_token


class WatchEndedError(IncidentError):
    """The server ends this stream: open it again with the latest resume_token."""

    def __init__(self, resume_token: str) -> None:
        super().__init__()
        self.resume_token = resume_token


class ResumeTokenAheadError(IncidentError):
    """The database does not know of what this resume_token has seen: start without it, with include_existing."""


class ResumeTokenOfOtherDatabaseError(IncidentError):
    """The database was restored or moved since this resume_token was issued: start without it, with include_existing."""


class FellBehindError(Exception):
    """The next change of this watcher has been dropped from the feed."""


class FeedEndedError(Exception):
    """The feed has ended for this watcher."""
