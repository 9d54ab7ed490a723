"""Errors of the rules. A class's docstring is the message that the caller gets; its attributes are the facts."""

from collections.abc import Sequence

from approval.model import State


class ApprovalError(Exception):
    """The approval service refused the call."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


class ApprovalNotFoundError(ApprovalError):
    """There is no approval with this id."""

    def __init__(self, approval_id: str) -> None:
        super().__init__()
        self.approval_id = approval_id


class IncidentNotFoundError(ApprovalError):
    """There is no incident with this id."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class IncidentResolvedError(ApprovalError):
    """The incident is resolved already."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class TransitionNotAllowedError(ApprovalError):
    """The approval's state does not allow this."""

    def __init__(self, approval_id: str, *, current: State, allowed: Sequence[State]) -> None:
        super().__init__()
        self.approval_id = approval_id
        self.current = current
        self.allowed = allowed


class AlreadySupersededError(TransitionNotAllowedError):
    """Another proposal superseded this approval."""

    def __init__(self, approval_id: str, *, superseded_by: str) -> None:
        super().__init__(approval_id, current=State.CANCELLED, allowed=(State.PENDING,))
        self.superseded_by = superseded_by


class SupersedesOtherIncidentError(ApprovalError):
    """The approval to supersede is for another incident."""

    def __init__(self, approval_id: str) -> None:
        super().__init__()
        self.approval_id = approval_id


class NotCanaryError(ApprovalError):
    """Only the approval of a canary incident can be removed."""

    def __init__(self, approval_id: str) -> None:
        super().__init__()
        self.approval_id = approval_id


class ConflictingDecisionError(TransitionNotAllowedError):
    """The caller decided the other way before."""


class SelfApprovalError(ApprovalError):
    """A proposer never decides about its own proposal, nor about one that supersedes it."""


class NotProposerError(ApprovalError):
    """Only its proposer or an operator may cancel or supersede an approval, and only an operator may cancel an INDETERMINATE one."""


class ApprovalChangedError(ApprovalError):
    """The approval was changed since it was read: read it again and decide again."""

    def __init__(self, approval_id: str) -> None:
        super().__init__()
        self.approval_id = approval_id


class RequestIdReusedError(ApprovalError):
    """This request_id was used before with other content."""
