"""Errors of the use cases on side effects and postmortems."""

from collections.abc import Sequence

from incident.effects.model import SideEffectState
from incident.errors import IncidentError


class SideEffectNotFoundError(IncidentError):
    """The incident has no such side effect."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class DeliveryIdNotFoundError(IncidentError):
    """There is no side effect with this delivery id."""

    def __init__(self, delivery_id: str) -> None:
        super().__init__()
        self.delivery_id = delivery_id


class SideEffectStateError(IncidentError):
    """The side effect's state does not allow this."""

    def __init__(self, subject: str, *, current: SideEffectState, allowed: Sequence[SideEffectState]) -> None:
        """`subject` is the incident's id; of another version's job the delivery id."""
        super().__init__()
        self.subject = subject
        self.current = current
        self.allowed = allowed


class SideEffectEndedError(SideEffectStateError):
    """The side effect took effect, was left out or was dismissed: there is nothing to try again."""


class SideEffectNotParkedError(SideEffectStateError):
    """Only a PARKED side effect can be dismissed."""


class NeverResolvedError(IncidentError):
    """The incident was never resolved, so nothing was written about it."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class PostmortemNotWrittenError(IncidentError):
    """The postmortem is not written, yet or on purpose: ListSideEffects has the reason."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id
