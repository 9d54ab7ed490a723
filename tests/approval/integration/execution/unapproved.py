"""Approvals that may not be executed."""

from awoooi.approval.v1 import approval_pb2
from tests.approval.schemas import rows
from tests.callers import Approvals, Incidents
from tests.services import RunningService


async def unapproved(
    approvals: Approvals, incidents: Incidents, service: RunningService, how: str
) -> approval_pb2.Approval:
    """An approval that is pending, rejected or expired."""
    approval = await approvals.proposed(await incidents.opened_id())
    if how == "rejected":
        return await approvals.reject(approval.approval_id)
    if how == "expired":
        await approvals.approve(approval.approval_id)
        await rows(
            service.database_url,
            "UPDATE approvals SET expire_time = now() WHERE approval_id = $1",
            approval.approval_id,
        )
        return await approvals.get(approval.approval_id)
    return approval
