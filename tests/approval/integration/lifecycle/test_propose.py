"""Propose: what is recorded, what is refused, and what a retry gets."""

import asyncio
import re
import time
import uuid
from datetime import timedelta
from typing import Any, NamedTuple

import grpc
import pytest

from approval.actions.grammar import parse_action
from approval.actions.parsed import action_hash
from awoooi.approval.v1 import approval_pb2
from tests.approval.fronted import CHECK_TIMEOUT, Fronted
from tests.approval.schemas import rows
from tests.approval.scripted_incidents import answer, hang
from tests.callers import Approvals, Incidents, State
from tests.eventually import eventually
from tests.rpc_errors import refused
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNKNOWN = "INC-20200101-00000000DEAD"


async def test_a_proposal_is_recorded_as_it_was_made(approvals: Approvals, incidents: Incidents) -> None:
    incident_id = await incidents.opened_id()
    approval = await approvals.proposed(
        incident_id,
        "SCALE Deployment/api --replicas=3 -n prod",
        actor="ai:planner",
        risk=approval_pb2.RISK_HIGH,
        rationale="the queue grows\nand grows",
        confidence=0.25,
        ttl=timedelta(seconds=90),
        required_approvals=3,
        auto_execute=False,
    )
    assert re.fullmatch(r"APR-[0-9]{8}-[0-9A-F]{6,12}", approval.approval_id)
    assert approval.incident_id == incident_id
    assert approval.action == "SCALE Deployment/api --replicas=3 -n prod"
    assert approval.operation == approval_pb2.Operation(
        kind=approval_pb2.Operation.KIND_SCALE,
        resource_kind="deployment",
        name="api",
        namespace="prod",
        replicas=3,
    )
    assert approval.parse_error == ""
    assert approval.action_hash == action_hash(approval.action, parse_action(approval.action))
    assert approval.risk == approval_pb2.RISK_HIGH
    assert approval.rationale == "the queue grows\nand grows"
    assert approval.confidence == 0.25
    assert approval.required_approvals == 3
    assert not approval.auto_execute
    assert approval.state == State.STATE_PENDING
    assert approval.proposed_by == "ai:planner"
    assert approval.incident_verified
    assert not approval.decisions
    lived = approval.expire_time.ToDatetime() - approval.create_time.ToDatetime()
    assert lived == timedelta(seconds=90)
    for unset in ("decide_time", "execute_time", "finish_time", "incident_resolve_time"):
        assert not approval.HasField(unset)
    assert await approvals.get(approval.approval_id) == approval


async def test_an_unset_field_has_the_default_of_the_contract(
    approvals: Approvals, incidents: Incidents
) -> None:
    # None leaves a field out.
    approval = await approvals.proposed(await incidents.opened_id(), auto_execute=None)
    assert approval.auto_execute
    assert approval.required_approvals == 1
    assert not approval.HasField("confidence")
    assert approval.rationale == ""
    assert approval.expire_time.ToDatetime() - approval.create_time.ToDatetime() == timedelta(hours=24)
    await approvals.reject(approval.approval_id)


async def test_an_action_that_cannot_be_parsed_is_recorded_with_the_reason(
    approvals: Approvals, incidents: Incidents
) -> None:
    approval = await approvals.proposed(await incidents.opened_id(), "RESTART deployment/api")
    assert approval.state == State.STATE_PENDING
    assert not approval.HasField("operation")
    assert approval.parse_error == "at character 23: expected a namespace: -n NAME"


async def test_a_confidence_of_zero_is_not_unset(approvals: Approvals, incidents: Incidents) -> None:
    approval = await approvals.proposed(await incidents.opened_id(), confidence=0.0)
    assert approval.HasField("confidence")
    assert approval.confidence == 0.0


async def test_an_unknown_incident_is_refused(approvals: Approvals, approval_service: RunningService) -> None:
    refusal = await refused(approvals.proposed(UNKNOWN))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
    assert refusal.resource == ("awoooi.incident.v1.Incident", UNKNOWN)
    assert not await _approvals_for(approval_service, UNKNOWN)


async def test_a_resolved_incident_is_refused(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    incident_id = (await incidents.resolved()).incident_id
    refusal = await refused(approvals.proposed(incident_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INCIDENT_RESOLVED")
    assert refusal.resource == ("awoooi.incident.v1.Incident", incident_id)
    assert not await _approvals_for(approval_service, incident_id)


async def test_a_retry_of_a_proposal_is_idempotent_and_writes_nothing(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    incident_id = await incidents.opened_id()
    request_id = str(uuid.uuid4())
    first = await approvals.proposed(incident_id, request_id=request_id)
    assert await approvals.proposed(incident_id, request_id=request_id) == first
    assert await _approvals_for(approval_service, incident_id) == 1


async def test_a_retry_of_a_proposal_returns_the_current_record(
    approvals: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    request_id = str(uuid.uuid4())
    approval = await approvals.proposed(incident_id, request_id=request_id)
    rejected = await approvals.reject(approval.approval_id)
    await incidents.resolve(incident_id, resolution_type="HUMAN")
    # Had it been a new proposal, the resolved incident would refuse it.
    assert await approvals.proposed(incident_id, request_id=request_id) == rejected


OTHER_CONTENT: dict[str, dict[str, Any]] = {
    "action": {"action": "NO_ACTION: something else"},
    "risk": {"risk": approval_pb2.RISK_CRITICAL},
    "rationale": {"rationale": "because"},
    "confidence": {"confidence": 0.5},
    "ttl": {"ttl": timedelta(seconds=1800)},
    "required_approvals": {"required_approvals": 2},
    "auto_execute": {"auto_execute": True},
}


@pytest.mark.parametrize("other", OTHER_CONTENT.values(), ids=OTHER_CONTENT)
async def test_a_request_id_with_other_content_is_refused(
    approvals: Approvals, incidents: Incidents, other: dict[str, Any]
) -> None:
    incident_id = await incidents.opened_id()
    request_id = str(uuid.uuid4())
    await approvals.proposed(incident_id, request_id=request_id)
    refusal = await refused(approvals.proposed(incident_id, request_id=request_id, **other))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_request_id_for_another_incident_is_refused(
    approvals: Approvals, incidents: Incidents
) -> None:
    request_id = str(uuid.uuid4())
    await approvals.proposed(await incidents.opened_id(), request_id=request_id)
    refusal = await refused(approvals.proposed(await incidents.opened_id(), request_id=request_id))
    assert refusal.reason == "REQUEST_ID_REUSED"


async def test_concurrent_proposals_with_one_request_id_are_idempotent(
    approvals: Approvals, replica: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    incident_id = await incidents.opened_id()
    request_id = str(uuid.uuid4())
    found = await asyncio.gather(
        *((approvals, replica)[turn % 2].proposed(incident_id, request_id=request_id) for turn in range(30))
    )
    assert len({approval.approval_id for approval in found}) == 1
    assert await _approvals_for(approval_service, incident_id) == 1
    # Counted once, as it is stored once; approvals of other tests may expire between the two looks.
    await eventually(
        lambda: _pending(approvals, approval_service), lambda pending: pending.counted == pending.stored
    )


async def test_without_a_request_id_two_equal_proposals_are_two(
    approvals: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    first, second = await asyncio.gather(approvals.proposed(incident_id), approvals.proposed(incident_id))
    assert first.approval_id != second.approval_id


async def test_a_proposal_during_an_outage_of_the_incident_service_is_recorded_unverified(
    fronted: Fronted,
) -> None:
    await fronted.front.stop()
    approval = await fronted.approvals.proposed(UNKNOWN)
    assert approval.state == State.STATE_PENDING
    assert not approval.incident_verified


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
    ],
    ids=lambda code: code.name,
)
async def test_a_proposal_is_recorded_when_the_incident_service_returns_an_error(
    fronted: Fronted, code: grpc.StatusCode
) -> None:
    fronted.front.behaviour = answer(code)
    approval = await fronted.approvals.proposed(UNKNOWN)
    assert not approval.incident_verified


async def test_a_hanging_incident_service_delays_a_proposal_by_the_check_timeout_at_most(
    fronted: Fronted,
) -> None:
    fronted.front.behaviour = hang
    started = time.monotonic()
    approval = await fronted.approvals.proposed(UNKNOWN)
    took = timedelta(seconds=time.monotonic() - started)
    assert not approval.incident_verified
    # Wide, for a slow machine: what is excluded is the server's own cap of 30 s.
    assert CHECK_TIMEOUT <= took < 30 * CHECK_TIMEOUT


async def _approvals_for(service: RunningService, incident_id: str) -> int:
    ((count,),) = await rows(
        service.database_url, "SELECT count(*) FROM approvals WHERE incident_id = $1", incident_id
    )
    return int(count)


class _Pending(NamedTuple):
    counted: int
    stored: int


async def _pending(approvals: Approvals, service: RunningService) -> _Pending:
    stats = await approvals.stats()
    counted = next(entry.count for entry in stats.approvals.approvals if entry.state == State.STATE_PENDING)
    ((stored,),) = await rows(service.database_url, "SELECT count(*) FROM approvals WHERE state = 'PENDING'")
    return _Pending(counted, stored)


@pytest.mark.parametrize(
    ("action", "stored", "kind"),
    [
        pytest.param(
            "NO_ACTION:\n\nRESTART deployment/api -n prod",
            "NO_ACTION: RESTART deployment/api -n prod",
            "KIND_NO_ACTION",
            id="one action that shows as another",
        ),
        pytest.param(
            "RESTART\u00a0deployment/api\u3000-n\tprod\n",
            "RESTART deployment/api -n prod",
            "KIND_RESTART",
            id="Unicode spaces",
        ),
    ],
)
async def test_an_action_is_one_line_in_what_is_parsed_hashed_and_shown(
    approvals: Approvals, incidents: Incidents, action: str, stored: str, kind: str
) -> None:
    approval = await approvals.proposed(await incidents.opened_id(), action, request_id=uuid.uuid4().hex)
    assert approval.action == stored
    assert approval.operation.kind == approval_pb2.Operation.Kind.Value(kind)
    assert approval.action_hash == action_hash(stored, parse_action(stored))


async def test_a_repeated_proposal_is_compared_after_normalization(
    approvals: Approvals, incidents: Incidents
) -> None:
    incident_id, request_id = await incidents.opened_id(), uuid.uuid4().hex
    first = await approvals.proposed(incident_id, rationale="a\nb", request_id=request_id)
    again = await approvals.proposed(
        incident_id, f"{first.action}\r\n", rationale="a\r\nb", request_id=request_id
    )
    assert again == first


async def test_a_reason_keeps_its_lines_without_escape_characters(
    approvals: Approvals, incidents: Incidents
) -> None:
    approval = await approvals.proposed(await incidents.opened_id())
    rejected = await approvals.reject(approval.approval_id, reason="no:\r\n\tnot now\x1b[0m")
    assert rejected.outcome_message == rejected.decisions[0].reason == "no:\n\tnot now [0m"
