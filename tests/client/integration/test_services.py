"""The clients at the real services: every RPC, and what its errors say."""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from awoooi.client import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    StatsClient,
    SyncStatsClient,
    error_from_status,
)
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.client.either_kind import Driver, Kind, approval_client, incident_client
from tests.eventually import eventually
from tests.services import TIMEOUT_SECONDS, RunningService

UNKNOWN_ID = "INC-20200101-00000000DEAD"


@dataclass(frozen=True)
class Clients:
    """Clients of one kind for both services."""

    incidents: Driver
    approvals: Driver

    async def opened(self, **fields: object) -> incident_pb2.Incident:
        """A new incident."""
        created = await self.incidents.call("create", title="disk full", severity="HIGH", **fields)
        incident: incident_pb2.Incident = created.incident
        return incident

    async def proposed(self, **fields: object) -> approval_pb2.Approval:
        """A new approval of a new incident."""
        incident_id = (await self.opened()).incident_id
        proposal = {
            "action": "NO_ACTION: observe",
            "risk": "LOW",
            "auto_execute": False,
            "actor": "ai",
        } | fields
        approval: approval_pb2.Approval = await self.approvals.call("propose", incident_id, **proposal)
        return approval


@pytest_asyncio.fixture
async def clients(
    kind: Kind, incident_service: RunningService, approval_service: RunningService
) -> AsyncIterator[Clients]:
    """Clients of either kind, whose caller is alice."""
    settings = {"actor": "alice", "timeout": TIMEOUT_SECONDS}
    async with (
        incident_client(kind, incident_service.address, **settings) as incidents,
        approval_client(kind, approval_service.address, **settings) as approvals,
    ):
        yield Clients(incidents, approvals)


async def test_an_incident_from_the_report_to_the_postmortem(clients: Clients) -> None:
    incidents, word = clients.incidents, f"w{secrets.token_hex(6)}"
    labels = {"test": word}
    created = await incidents.call(
        "create", title=f"{word} is slow", severity="CRITICAL", fingerprint=word, labels=labels
    )
    incident_id = created.incident.incident_id
    again = await incidents.call("create", title="again", severity="LOW", fingerprint=word)
    assert (created.deduplicated, again.deduplicated) == (False, True)
    assert (await incidents.call("get", incident_id)).occurrence_count == 2
    investigated = await incidents.call("start_investigation", incident_id)
    assert investigated.state == incident_pb2.Incident.STATE_INVESTIGATING
    event = await incidents.call("add_event", incident_id, type="NOTE", summary="looked at it")
    assert event.actor == "alice"
    resolved = await incidents.call("resolve", incident_id, resolution_type="HUMAN", note="restarted it")
    assert (resolved.already_resolved, resolved.incident.resolved_by) == (False, "alice")

    async def effects() -> Sequence[incident_pb2.SideEffect]:
        found: list[incident_pb2.SideEffect] = await incidents.items(
            "list_side_effects", incident_id=incident_id, states=["DONE"], effects=["POSTMORTEM", "KNOWLEDGE"]
        )
        return found

    await eventually(effects, lambda found: len(found) == 2)
    assert word in (await incidents.call("get_postmortem", incident_id)).markdown
    [match] = await incidents.items("search_knowledge", word, resolution_types=["HUMAN"])
    assert word in match.entry.symptoms
    reopened = await incidents.call("reopen", incident_id, reason="slow again")
    assert reopened.state == incident_pb2.Incident.STATE_OPEN
    [listed] = await incidents.items("list", labels=labels, states=["OPEN"], severities=["CRITICAL"])
    assert listed == reopened
    types = [event.type for event in await incidents.items("list_events", incident_id, page_size=3)]
    assert types[0] == incident_pb2.IncidentEvent.TYPE_OPENED
    assert len(types) > 6


async def test_an_approval_from_the_proposal_to_the_acknowledgement(clients: Clients) -> None:
    approvals = clients.approvals
    proposed = await clients.proposed(required_approvals=2)
    approval_id = proposed.approval_id
    assert (await approvals.call("get", approval_id)).proposed_by == "ai"
    await approvals.call("approve", approval_id)
    approved = await approvals.call("approve", approval_id, actor="bob", reason="harmless")
    assert approved.state == approval_pb2.Approval.STATE_APPROVED
    planned = await approvals.call("execute", approval_id, validate_only=True)
    assert [check.name for check in planned.plan.checks if not check.passed] == []
    executed = await approvals.call("execute", approval_id)
    assert executed.approval.state == approval_pb2.Approval.STATE_SUCCEEDED

    async def deliveries() -> Sequence[approval_pb2.Delivery]:
        found: list[approval_pb2.Delivery] = await approvals.items(
            "list_deliveries", approval_id=approval_id, states=["DONE"]
        )
        return found

    [delivery] = await eventually(deliveries)
    assert delivery.incident_id == proposed.incident_id
    [listed] = await approvals.items(
        "list", incident_id=proposed.incident_id, states=["SUCCEEDED"], operation_kinds=["NO_ACTION"]
    )
    assert listed.approval_id == approval_id
    assert await approvals.items("list_executions", approval_id=approval_id) == []
    assert (await approvals.call("reconcile", validate_only=True)).queued_count == 0
    rejected = await approvals.call("reject", (await clients.proposed()).approval_id)
    assert rejected.state == approval_pb2.Approval.STATE_REJECTED
    cancelled = await approvals.call("cancel", (await clients.proposed()).approval_id, actor="ai")
    assert cancelled.state == approval_pb2.Approval.STATE_CANCELLED
    with pytest.raises(FailedPreconditionError) as caught:
        await approvals.call("retry_delivery", delivery.delivery_id)
    assert caught.value.reason == "DELIVERY_DONE"


async def test_a_list_is_the_same_over_pages_of_any_size(clients: Clients) -> None:
    labels = {"test": secrets.token_hex(6)}
    opened = [(await clients.opened(labels=labels)).incident_id for _ in range(5)]
    for page_size in (1, 2, 5, 0):
        listed = await clients.incidents.items(
            "list", labels=labels, order="CREATE_TIME_ASC", page_size=page_size
        )
        assert [incident.incident_id for incident in listed] == opened
    first = await clients.incidents.page("list", labels=labels, page_size=3)
    rest = await clients.incidents.page("list", labels=labels, page_token=first.next_page_token)
    assert [len(page.incidents) for page in (first, rest)] == [3, 2]
    assert [
        len(page.incidents) for page in await clients.incidents.pages("list", labels=labels, page_size=2)
    ] == [
        2,
        2,
        1,
    ]


async def test_items_of_a_batch_fail_with_the_same_errors_as_calls(clients: Clients) -> None:
    opened = await clients.opened()
    human = incident_pb2.RESOLUTION_TYPE_HUMAN
    items = [
        pb.BatchResolveRequest.Item(incident_id=incident_id, resolution_type=human)
        for incident_id in (opened.incident_id, UNKNOWN_ID)
    ]
    good, bad = await clients.incidents.call("batch_resolve", items)
    assert not good.resolved.already_resolved
    error = error_from_status(bad.status)
    assert isinstance(error, NotFoundError)
    assert (error.reason, error.resource) == (
        "INCIDENT_NOT_FOUND",
        ("awoooi.incident.v1.Incident", UNKNOWN_ID),
    )


async def test_an_unknown_id_is_not_found(clients: Clients) -> None:
    with pytest.raises(NotFoundError) as caught:
        await clients.incidents.call("get", UNKNOWN_ID)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
    assert caught.value.resource == ("awoooi.incident.v1.Incident", UNKNOWN_ID)


async def test_a_bad_field_is_named(clients: Clients) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await clients.incidents.call("create", title=" ", severity="HIGH", source="\t")
    assert [violation.field for violation in caught.value.field_violations] == ["title", "source"]
    assert caught.value.field_violations[0].description == "must not be blank"


async def test_a_state_that_does_not_allow_the_call_is_named_with_those_that_do(clients: Clients) -> None:
    incident_id = (await clients.opened()).incident_id
    with pytest.raises(FailedPreconditionError) as caught:
        await clients.incidents.call("reopen", incident_id, reason="never closed")
    assert (caught.value.current_state, caught.value.allowed_states) == ("OPEN", ("RESOLVED",))
    assert caught.value.preconditions[0].subject == incident_id


async def test_a_stale_etag_is_aborted(clients: Clients) -> None:
    incident_id = (await clients.opened()).incident_id
    with pytest.raises(AbortedError) as caught:
        await clients.incidents.call("resolve", incident_id, resolution_type="HUMAN", etag="stale")
    assert caught.value.reason == "INCIDENT_CHANGED"


async def test_a_request_id_with_other_content_exists_already(clients: Clients) -> None:
    request_id = secrets.token_hex(6)
    await clients.opened(request_id=request_id)
    with pytest.raises(AlreadyExistsError) as caught:
        await clients.opened(request_id=request_id, description="other")
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_self_approval_is_refused(clients: Clients) -> None:
    approval_id = (await clients.proposed()).approval_id
    with pytest.raises(PermissionDeniedError) as caught:
        await clients.approvals.call("approve", approval_id, actor="ai")
    assert caught.value.reason == "OWN_PROPOSAL"


async def test_statistics_of_both_services(
    incident_service: RunningService, approval_service: RunningService
) -> None:
    async with StatsClient(incident_service.address) as stats:
        assert (await stats.get_flywheel_stats()).HasField("incidents")
    with SyncStatsClient(approval_service.address) as sync_stats:
        assert sync_stats.get_flywheel_stats(view="FULL").HasField("approvals")
