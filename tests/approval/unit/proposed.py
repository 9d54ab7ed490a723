"""New approvals for tests of the rules, without a database."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from approval.actions.parsed import parse
from approval.model import Approval, Risk, State

NOON = datetime(2026, 5, 7, 12, tzinfo=UTC)


def new_approval(action: str, **facts: Any) -> Approval:
    """A new approval; the facts that are not given match every rule."""
    parsed = parse(action)
    approval = Approval(
        approval_id="APR-20260507-99ADF2",
        incident_id="INC-20260507-99ADF2",
        action=action,
        operation=parsed.operation,
        parse_error=parsed.error,
        action_hash=parsed.hash,
        risk=Risk.LOW,
        rationale="",
        confidence=1.0,
        required_approvals=1,
        auto_execute=True,
        state=State.PENDING,
        proposed_by="ai",
        incident_verified=True,
        incident_opening=1,
        create_time=NOON,
        update_time=NOON,
        expire_time=NOON + timedelta(hours=24),
        decide_time=None,
        execute_time=None,
        finish_time=None,
        outcome_message="",
        cancelled_by="",
        incident_resolve_time=None,
        incident_unknown_time=None,
        incident_unknown_accepted_by="",
        supersedes="",
        superseded_by="",
        superseded_proposers=(),
        recovery=None,
        recovery_time=None,
        recovery_deadline=None,
        recovery_message="",
        version=1,
        decisions=(),
        is_past_expiry=False,
    )
    return dataclasses.replace(approval, **facts)
