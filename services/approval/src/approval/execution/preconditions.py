"""Whether an approval may be executed now: asked under its lock, by whoever is about to execute it."""

from approval.actions.grammar import ActionSyntaxError, parse_action
from approval.errors import (
    ActionChangedError,
    ApprovalChangedError,
    ApprovalNotFoundError,
    TransitionNotAllowedError,
)
from approval.model import EXECUTED, Approval, Execute, Execution, action_hash


def judge(approval: Approval | None, command: Execute) -> Approval | Execution | Exception:
    """Return the approval when it may be executed, the stored outcome when it was, or why it is refused."""
    if approval is None:
        return ApprovalNotFoundError(command.approval_id)
    if approval.state in EXECUTED:
        return Execution(approval, already_executed=True)
    if approval.effective_state not in command.allowed:
        return TransitionNotAllowedError(
            approval.approval_id, current=approval.effective_state, allowed=command.allowed
        )
    if command.etag and command.etag != approval.etag:
        return ApprovalChangedError(approval.approval_id)
    if not is_unchanged(approval):
        return ActionChangedError(approval.approval_id)
    return approval


def is_unchanged(approval: Approval) -> bool:
    """Tell whether the action would still be read as what was approved."""
    try:
        operation = parse_action(approval.action)
    except ActionSyntaxError:
        operation = None
    return operation == approval.operation and action_hash(approval.action, operation) == approval.action_hash
