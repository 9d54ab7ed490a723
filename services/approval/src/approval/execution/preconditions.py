"""Whether an approval may be executed now: checked under its lock."""

from approval.actions.parsed import is_unchanged
from approval.errors import ApprovalChangedError, TransitionNotAllowedError
from approval.execution.errors import ActionChangedError
from approval.execution.model import ExecuteCommand
from approval.model import Approval


def check(approval: Approval, command: ExecuteCommand) -> None:
    """Check an approval that was not executed.

    Raises TransitionNotAllowedError, ApprovalChangedError, ActionChangedError.
    """
    if approval.effective_state not in command.allowed:
        raise TransitionNotAllowedError(
            approval.approval_id, current=approval.effective_state, allowed=command.allowed
        )
    if command.etag and command.etag != approval.etag:
        raise ApprovalChangedError(approval.approval_id)
    if not is_unchanged(approval):
        raise ActionChangedError(approval.approval_id)
