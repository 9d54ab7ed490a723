"""Parses an action at Propose, and checks at Execute that it would still be parsed as what was approved."""

import hashlib
import json
from dataclasses import dataclass

from approval.actions.grammar import ActionSyntaxError, parse_action
from approval.model import Approval, Operation


@dataclass(frozen=True, slots=True)
class ParsedAction:
    """What an action was parsed as, an operation or an error, and the hash of both."""

    operation: Operation | None
    error: str
    hash: str


def parse(action: str) -> ParsedAction:
    """Return what an action is parsed as. A syntax error is kept: the approval FAILS when it is executed."""
    try:
        operation = parse_action(action)
    except ActionSyntaxError as exc:
        return ParsedAction(None, str(exc), action_hash(action, None))
    return ParsedAction(operation, "", action_hash(action, operation))


def is_unchanged(approval: Approval) -> bool:
    """Return whether this version of the grammar still parses the action as what was approved."""
    parsed = parse(approval.action)
    return parsed.operation == approval.operation and parsed.hash == approval.action_hash


def action_hash(action: str, operation: Operation | None) -> str:
    """Return the digest of an action and what it was parsed as: what approvers agree to."""
    target = None
    if operation is not None:
        target = [
            operation.kind,
            operation.resource_kind,
            operation.name,
            operation.namespace,
            operation.replicas,
            operation.hook,
        ]
    return hashlib.sha256(json.dumps([action, target]).encode()).hexdigest()
