"""Approvals that were approved, written without the service, and a look at them."""

from datetime import timedelta

from approval.actions.parsed import parse
from approval.lifecycle import repository
from approval.model import ID_PREFIX, Approval, DecisionKind, Proposal, Risk, State
from servicekit.database.ids import new_id
from servicekit.outbox.transaction import Transactions


async def insert_approved(transactions: Transactions, action: str) -> Approval:
    """An APPROVED approval of an action; its version was another when it was PENDING."""
    approval_id = new_id(ID_PREFIX, attempt=3)
    proposal = Proposal(
        incident_id="INC-20260507-99ADF2",
        action=action,
        risk=Risk.LOW,
        rationale="",
        confidence=None,
        ttl=timedelta(hours=1),
        required_approvals=1,
        auto_execute=False,
    )
    async with transactions.begin() as transaction:
        await repository.insert(
            transaction, approval_id, proposal, parse(action), proposed_by="ai", incident_verified=True
        )
        approval = await repository.get_for_update(transaction.connection, approval_id)
        await repository.insert_decision(
            transaction.connection, approval_id, actor="alice", kind=DecisionKind.APPROVE, reason=""
        )
        await repository.decide(transaction, approval, State.APPROVED, message="")
        return await repository.get(transaction.connection, approval_id)


async def get_approval(transactions: Transactions, approval_id: str) -> Approval:
    """The approval as last committed."""
    async with transactions.statement() as connection:
        return await repository.get(connection, approval_id)
