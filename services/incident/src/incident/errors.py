"""What the rules refuse. A class's docstring is the sentence a caller reads; its attributes are the facts."""

from collections.abc import Sequence

from incident.model import SideEffectState, State


class IncidentError(Exception):
    """The incident service refused the call."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


class IncidentNotFoundError(IncidentError):
    """There is no incident with this id."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class TransitionNotAllowedError(IncidentError):
    """The incident's state does not allow this."""

    def __init__(self, incident_id: str, *, current: State, allowed: Sequence[State]) -> None:
        super().__init__()
        self.incident_id = incident_id
        self.current = current
        self.allowed = allowed


class IncidentChangedError(IncidentError):
    """The incident was changed since it was read: read it again and decide again."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class RequestIdReusedError(IncidentError):
    """This request_id was used before with other content."""


class IncidentIdTakenError(IncidentError):
    """There is an incident with this id and other content."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class FingerprintTakenError(IncidentError):
    """Another unresolved incident has this incident's fingerprint now."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class EventIdTakenError(IncidentError):
    """There is an event with this id and other content."""


class SideEffectNotFoundError(IncidentError):
    """The incident has no such side effect."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class SideEffectEndedError(IncidentError):
    """The side effect took effect or was left out: there is nothing to try again."""

    def __init__(
        self, incident_id: str, *, current: SideEffectState, allowed: Sequence[SideEffectState]
    ) -> None:
        super().__init__()
        self.incident_id = incident_id
        self.current = current
        self.allowed = allowed


class NeverResolvedError(IncidentError):
    """The incident was never resolved, so nothing was written about it."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class PostmortemNotWrittenError(IncidentError):
    """The postmortem is not written, yet or on purpose: ListSideEffects says which."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


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
