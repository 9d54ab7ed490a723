"""Errors of the incident service. A class's docstring is the message of the RPC status; its attributes are the facts."""

from collections.abc import Sequence

from incident.model import State


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


class NotCanaryError(IncidentError):
    """Only a canary incident can be removed."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class FingerprintTakenError(IncidentError):
    """Another unresolved incident has this incident's fingerprint now."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class ResolutionsExhaustedError(IncidentError):
    """The incident was resolved as often as can be counted: open another one."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class EventIdTakenError(IncidentError):
    """There is an event with this id and other content."""


class EventTimeAheadError(IncidentError):
    """The event's time is more than 5 minutes in the future."""
