"""A rule of the policy approves a proposal."""

import asyncio
from typing import Any

import pytest

from awoooi.approval.v1 import approval_pb2
from awoooi.client import InvalidArgumentError
from awoooi.incident.v1 import incident_pb2
from tests.approval.integration.policy.ruled import (
    APPROVED,
    PENDING,
    POLICY,
    STAGING,
    SUCCEEDED,
    UNKNOWN,
    Ruled,
)
from tests.approval.schemas import rows
from tests.audit_trail import records
from tests.callers import Approvals, Incidents
from tests.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_no_action_that_a_rule_approves_resolves_its_incident(
    ruled: Ruled, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    proposed = await ruled.approvals.proposed(incident_id, actor="ai", auto_execute=True)
    (decision,) = proposed.decisions
    assert decision.actor == "policy:observe"
    assert decision.policy_rule == "observe"
    assert decision.kind == approval_pb2.Decision.KIND_APPROVE
    assert decision.reason == "approved by policy rule observe"
    (audited,) = await records(
        ruled.service.database_url, proposed.approval_id, operation="background/policy"
    )
    assert (audited["actor"], audited["outcome"]) == ("policy:observe", "CHANGED")

    delivered = await ruled.approvals.until_delivered(proposed.approval_id)
    assert delivered.state == SUCCEEDED
    assert list(delivered.decisions) == [decision]
    incident = await incidents.get(incident_id)
    assert incident.state == incident_pb2.Incident.STATE_RESOLVED
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_NO_ACTION
    await ruled.service.logged(
        "approval_approved_by_policy",
        approval_id=proposed.approval_id,
        incident_id=incident_id,
        rule="observe",
    )


async def test_the_timeline_of_the_incident_names_the_rule(ruled: Ruled, incidents: Incidents) -> None:
    incident_id = await incidents.opened_id()
    approval = await ruled.approvals.proposed(incident_id, actor="ai")
    types = (incident_pb2.IncidentEvent.TYPE_PROPOSED, incident_pb2.IncidentEvent.TYPE_APPROVED)
    events = await eventually(
        lambda: incidents.events(incident_id, *types), lambda found: len(found) == len(types)
    )
    proposed, approved = sorted(events, key=lambda event: event.type)
    assert proposed.attributes == {"approval_id": approval.approval_id, "proposed_by": "ai"}
    assert approved.summary == "approved by policy rule observe"
    assert approved.attributes == {
        "approval_id": approval.approval_id,
        "approved_by": "policy:observe",
        "policy_rule": "observe",
    }


async def test_decision_and_execution_are_committed_with_the_proposal(
    ruled: Ruled, incidents: Incidents
) -> None:
    approval = await ruled.approvals.proposed(await incidents.opened_id(), auto_execute=True)
    # now() is one time for all that a transaction writes.
    assert approval.decisions[0].decide_time == approval.create_time
    assert approval.decide_time == approval.create_time
    written = await rows(
        ruled.service.database_url,
        """
        SELECT topic, create_time = (SELECT create_time FROM approvals WHERE approval_id = $1) FROM outbox
        WHERE payload ->> 'approval_id' = $1 AND topic = 'approval.execute'
        """,
        approval.approval_id,
    )
    assert written == [("approval.execute", True)]


async def test_an_operation_that_a_rule_approves_is_run(ruled: Ruled, incidents: Incidents) -> None:
    incident_id = await incidents.opened_id(severity=incident_pb2.SEVERITY_LOW)
    approval = await ruled.approvals.proposed(incident_id, STAGING, confidence=0.9, auto_execute=True)
    assert approval.decisions[0].policy_rule == "repair-staging"
    delivered = await ruled.approvals.until_delivered(approval.approval_id)
    assert delivered.state == SUCCEEDED
    incident = await incidents.get(incident_id)
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED


async def test_without_auto_execute_an_approved_proposal_waits_for_execute(
    ruled: Ruled, incidents: Incidents
) -> None:
    approval = await ruled.approvals.proposed(await incidents.opened_id(), auto_execute=False)
    assert approval.state == APPROVED
    answer = await ruled.approvals.execute(approval.approval_id, etag=approval.etag)
    assert answer.approval.state == SUCCEEDED
    assert not answer.already_executed


NO_RULE: dict[str, dict[str, Any]] = {
    "risk": {"risk": approval_pb2.RISK_MEDIUM},
    "unparsable": {"action": "look at it"},
    "several approvers": {"required_approvals": 2},
    "namespace": {"action": "RESTART deployment/web -n prod", "confidence": 1.0},
    "confidence": {"action": STAGING, "confidence": 0.89},
    "no confidence": {"action": STAGING},
    "action": {"action": "DELETE pod/web-1 -n staging", "confidence": 1.0},
}


@pytest.mark.parametrize("proposal", NO_RULE.values(), ids=NO_RULE)
async def test_a_proposal_that_no_rule_matches_stays_pending(
    ruled: Ruled, incidents: Incidents, proposal: dict[str, Any]
) -> None:
    incident_id = await incidents.opened_id(severity=incident_pb2.SEVERITY_LOW)
    approval = await ruled.approvals.proposed(incident_id, auto_execute=True, **proposal)
    assert approval.state == PENDING
    assert not approval.decisions
    assert await ruled.approvals.get(approval.approval_id) == approval


@pytest.mark.parametrize("severity", incident_pb2.Severity.values()[1:], ids=incident_pb2.Severity.Name)
async def test_a_rule_matches_the_severity_of_the_incident(
    ruled: Ruled, incidents: Incidents, severity: incident_pb2.Severity.ValueType
) -> None:
    approval = await ruled.approvals.proposed(
        await incidents.opened_id(severity=severity), STAGING, confidence=1.0
    )
    assert approval.state == (APPROVED if severity == incident_pb2.SEVERITY_LOW else PENDING)


async def test_a_caller_cannot_claim_the_name_of_a_rule(ruled: Ruled, incidents: Incidents) -> None:
    approval = await ruled.approvals.proposed(await incidents.opened_id(), required_approvals=2)
    with pytest.raises(InvalidArgumentError, match="awoooi-actor: must not be a name of the system"):
        await ruled.approvals.approve(approval.approval_id, actor="policy:observe")
    assert not (await ruled.approvals.get(approval.approval_id)).decisions


async def test_while_the_incident_service_is_unreachable_rules_approve_only_no_action(ruled: Ruled) -> None:
    await ruled.front.stop()
    observed = await ruled.approvals.proposed(UNKNOWN)
    assert observed.state == APPROVED
    assert not observed.incident_verified
    repaired = await ruled.approvals.proposed(UNKNOWN, STAGING, confidence=1.0)
    assert repaired.state == PENDING
    # Its severity would match, and is not known now.
    ruled.policy_file.write_text(f'{POLICY.partition("[rules.repair")[0]}severities = ["HIGH"]\n')
    assert (await ruled.approvals.proposed(UNKNOWN)).state == PENDING


async def test_a_retry_of_a_proposal_is_idempotent_after_a_change_of_the_rules(
    ruled: Ruled, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    first = await ruled.approvals.proposed(incident_id, request_id="once")
    assert first.state == APPROVED
    ruled.switch_file.write_text("off\n")
    assert await ruled.approvals.proposed(incident_id, request_id="once") == first
    waiting = await ruled.approvals.proposed(incident_id, request_id="twice")
    assert waiting.state == PENDING
    ruled.switch_file.write_text("on\n")
    assert await ruled.approvals.proposed(incident_id, request_id="twice") == waiting


async def test_concurrent_proposals_with_one_request_id_are_approved_once(
    ruled: Ruled, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    found = await asyncio.gather(
        *(ruled.approvals.proposed(incident_id, request_id="together") for _ in range(20))
    )
    assert len({approval.approval_id for approval in found}) == 1
    assert len(found[0].decisions) == 1


async def test_concurrent_decisions_of_rules_and_people_do_not_deadlock(
    ruled: Ruled, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    waiting = [await ruled.approvals.proposed(incident_id, risk=approval_pb2.RISK_HIGH) for _ in range(40)]
    before = await _counts(ruled.approvals)
    await asyncio.gather(
        *(ruled.approvals.proposed(incident_id) for _ in waiting),
        *(ruled.approvals.approve(approval.approval_id) for approval in waiting),
    )
    after = await _counts(ruled.approvals)
    assert after[APPROVED] - before[APPROVED] == 2 * len(waiting)
    assert after[PENDING] - before[PENDING] == -len(waiting)


async def _counts(approvals: Approvals) -> dict[int, int]:
    stats = await approvals.stats()
    return {entry.state: entry.count for entry in stats.approvals.approvals}
