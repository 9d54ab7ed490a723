"""A request id belongs to its caller: another caller's proposal is never the answer."""

import secrets

import pytest

from tests.callers import Approvals, Incidents

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_proposal_with_another_callers_request_id_is_a_proposal_of_its_own(
    approvals: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    key = secrets.token_hex(8)
    first = await approvals.proposed(incident_id, actor="alice", request_id=key)
    other = await approvals.proposed(incident_id, "NO_ACTION: look again", actor="bob", request_id=key)
    assert (other.proposed_by, other.action) == ("bob", "NO_ACTION: look again")
    assert other.approval_id != first.approval_id
    assert await approvals.proposed(incident_id, actor="alice", request_id=key) == first
