"""Errors of executions."""

from approval.errors import ApprovalError


class IncidentUnreachableError(ApprovalError):
    """The incident service cannot be reached now, and no operation is run blind: try again."""

    def __init__(self, incident_id: str) -> None:
        super().__init__()
        self.incident_id = incident_id


class ActionChangedError(ApprovalError):
    """The action would be read differently now than when it was approved."""

    def __init__(self, approval_id: str) -> None:
        super().__init__()
        self.approval_id = approval_id


class ExecutorMissingError(ApprovalError):
    """This server has no executor for the operation."""

    def __init__(self, approval_id: str) -> None:
        super().__init__()
        self.approval_id = approval_id
