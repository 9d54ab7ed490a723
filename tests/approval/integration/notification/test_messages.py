"""What people are notified of, what a message says, and where it goes."""

import asyncio
import re
import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from approval.delivery.topics import NOTIFY_TOPIC
from tests.approval.integration.notification.notified import ROUTES, Notified, messages, received
from tests.approval.schemas import rows
from tests.callers import Approvals, Incidents, State

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHOP = "RESTART deployment/web -n shop"
OTHER = "SCALE deployment/web --replicas=5 -n shop"
SANDBOX = "RESTART deployment/web -n sandbox"
BUF = Path(sys.executable).parent / "buf"


async def test_a_proposal_is_notified_of_with_all_that_an_approver_needs(
    notified: Notified, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    proposed = await notified.approvals.proposed(
        incident_id,
        SHOP,
        actor="bot",
        rationale="Latency doubled.\n@everyone",
        required_approvals=2,
        ttl=timedelta(hours=1),
    )
    (message,) = await received(notified.payments, proposed.approval_id, "PENDING")
    expires = proposed.expire_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
    microseconds = proposed.create_time.ToMicroseconds()
    assert (message.title, message.level) == (f"Approval needed: {SHOP}", "warning")
    assert message.body == (
        f"{proposed.approval_id}, risk LOW, incident {incident_id}\n"
        f"Expires {expires} UTC\n"
        "Asked to decide: the payments team\n"
        "May decide: everybody but bot, who proposed it; 2 approvals needed, 0 given\n"
        f"grpcurl -plaintext -H 'awoooi-actor: YOUR-NAME' -d '{{\"approval_id\": \"{proposed.approval_id}\"}}'"
        f" 127.0.0.1:0 awoooi.approval.v1.ApprovalService/Approve\n"
        "Rationale: Latency doubled.\n@everyone\n"
        f"{proposed.approval_id}/pending/{microseconds:x}"
    )
    assert messages(notified.oncall, proposed.approval_id) == []


async def test_the_command_in_a_message_approves(notified: Notified, incidents: Incidents) -> None:
    proposed = await notified.approvals.proposed(await incidents.opened_id(), SHOP)
    (message,) = await received(notified.payments, proposed.approval_id, "PENDING")
    (command,) = [line for line in message.body.splitlines() if line.startswith("grpcurl ")]
    words = shlex.split(command)
    # The test's service has chosen its port itself. buf takes the same header, message and method.
    assert words[:2] == ["grpcurl", "-plaintext"]
    assert words[2::2] == ["-H", "-d", "127.0.0.1:0"]
    header, content, method = words[3::2]
    address = f"http://{notified.service.address}/{method}"
    arguments = [
        "curl",
        "--protocol",
        "grpc",
        "--http2-prior-knowledge",
        "-H",
        header,
        "-d",
        content,
        address,
    ]
    process = await asyncio.create_subprocess_exec(BUF, *arguments, stdout=asyncio.subprocess.PIPE)
    found, _ = await process.communicate()
    assert '"STATE_APPROVED"' in found.decode()
    approved = await notified.approvals.get(proposed.approval_id)
    assert [each.actor for each in approved.decisions] == ["your-name"]


DECISIONS = {
    "APPROVED": ("approve", "success", "alice"),
    "REJECTED": ("reject", "info", "alice"),
    "CANCELLED": ("cancel", "info", "proposer"),
}


@pytest.mark.parametrize("event", DECISIONS)
async def test_a_decision_is_notified_of_with_who_decided_and_why(
    notified: Notified, incidents: Incidents, event: str
) -> None:
    method, level, actor = DECISIONS[event]
    incident_id = await incidents.opened_id()
    proposed = await notified.approvals.proposed(incident_id, SHOP, rationale="Latency doubled.")
    await received(notified.payments, proposed.approval_id, "PENDING")
    decide: Any = getattr(notified.approvals, method)
    decided = await decide(proposed.approval_id, actor=actor, reason="as the runbook says")
    # Idempotent: no second message.
    await decide(proposed.approval_id, actor=actor, reason="as the runbook says")
    pending, message = await received(notified.payments, proposed.approval_id, "PENDING", event)
    assert message.title == f"{event.capitalize()}: {SHOP}"
    assert message.level == level
    first, second, reason, rationale, message_id = message.body.splitlines()
    assert first == f"{proposed.approval_id}, risk LOW, incident {incident_id}"
    assert re.fullmatch(rf"By {actor}, (\d+ min )?\d+ s after it was proposed", second)
    assert (reason, rationale) == ("Reason: as the runbook says", "Rationale: Latency doubled.")
    microseconds = decided.update_time.ToMicroseconds()
    assert message_id == f"{proposed.approval_id}/{event.lower()}/{microseconds:x}"
    listed = notified.approvals.list_deliveries(approval_id=proposed.approval_id, topics=["NOTIFICATION"])
    assert {each.idempotency_key async for each in listed} == {pending.message_id, message_id}


async def test_what_is_superseded_is_notified_of_and_neither_proposer_may_decide(
    notified: Notified, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    first = await notified.approvals.proposed(incident_id, SHOP, actor="bot")
    second = await notified.approvals.proposed(
        incident_id, OTHER, actor="operator", supersedes=first.approval_id
    )
    _, message = await received(notified.payments, first.approval_id, "PENDING", "SUPERSEDED")
    assert (message.title, message.level) == (f"Superseded: {SHOP}", "info")
    assert f"\nReason: superseded by {second.approval_id}: {OTHER}\n" in message.body
    (message,) = await received(notified.payments, second.approval_id, "PENDING")
    assert "\nMay decide: everybody but operator and bot, who proposed it\n" in message.body


async def test_one_of_two_approvals_decides_nothing_and_is_not_notified_of(
    notified: Notified, incidents: Incidents
) -> None:
    proposed = await notified.approvals.proposed(await incidents.opened_id(), SHOP, required_approvals=2)
    for actor in ("alice", "bob"):
        await notified.approvals.approve(proposed.approval_id, actor=actor)
    (_, message) = await received(notified.payments, proposed.approval_id, "PENDING", "APPROVED")
    assert "\nBy bob, " in message.body


async def test_an_expiry_is_notified_of(notified: Notified, incidents: Incidents) -> None:
    incident_id = await incidents.opened_id()
    undecided = await notified.approvals.proposed(incident_id, SHOP, ttl=timedelta(seconds=1))
    approved = await notified.approvals.approved(incident_id, SHOP, ttl=timedelta(seconds=1))
    _, message = await received(notified.payments, undecided.approval_id, "PENDING", "EXPIRED")
    assert message.title == f"Expired: {SHOP}"
    assert message.level == "failure"
    assert "\nIt was not decided until 20" in message.body
    *_, message = await received(notified.payments, approved.approval_id, "PENDING", "APPROVED", "EXPIRED")
    assert "\nIt was approved and not executed until 20" in message.body


async def test_an_operation_that_its_incident_needs_no_more_is_notified_of_as_cancelled(
    notified: Notified, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    approved = await notified.approvals.approved(incident_id, SHOP)
    await incidents.resolve(incident_id, resolution_type="HUMAN", note="by hand")
    await notified.approvals.execute(approved.approval_id)
    *_, message = await received(notified.payments, approved.approval_id, "PENDING", "APPROVED", "CANCELLED")
    assert "\nBy service:approval, " in message.body
    assert "\nReason: not run: the incident was resolved already\n" in message.body


ROUTED: dict[str, tuple[str, str, bool, bool]] = {
    "by risk": ("RESTART deployment/web -n staging", "CRITICAL", True, False),
    "by namespace": (SHOP, "LOW", False, True),
    "by both": (SHOP, "HIGH", True, True),
    "to nobody": (SANDBOX, "LOW", False, False),
    "to everybody, by no route": ("RESTART deployment/web -n staging", "LOW", True, True),
    "without a namespace": ("NO_ACTION: observe first", "LOW", True, True),
    "an action that cannot be parsed": ("please have a look", "HIGH", True, False),
}


@pytest.mark.parametrize("routed", ROUTED.values(), ids=ROUTED)
async def test_a_message_is_routed_by_risk_and_namespace(
    notified: Notified, incidents: Incidents, routed: tuple[str, str, bool, bool]
) -> None:
    action, risk, oncall, payments = routed
    proposed = await notified.approvals.proposed(await incidents.opened_id(), action, risk=risk)
    await notified.settled(proposed.approval_id)
    assert len(messages(notified.oncall, proposed.approval_id)) == oncall
    assert len(messages(notified.payments, proposed.approval_id)) == payments


async def test_changed_routes_apply_from_the_next_message_and_broken_ones_change_nothing(
    notified: Notified, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()

    async def channels() -> tuple[int, int]:
        proposed = await notified.approvals.proposed(incident_id, SHOP)
        await notified.settled(proposed.approval_id)
        return len(messages(notified.oncall, proposed.approval_id)), len(
            messages(notified.payments, proposed.approval_id)
        )

    assert await channels() == (0, 1)
    notified.policy_file.write_text('[notifications.all]\nchannels = ["oncall"]\n')
    assert await channels() == (1, 0)
    notified.policy_file.write_text(ROUTES.replace('"payments"', '"pager"'))
    assert await channels() == (1, 0)
    await notified.service.logged(
        "notification_routes_unchanged",
        reason=f"{notified.policy_file}: notifications.shop.channels: there is no channel pager in"
        " APPROVAL_NOTIFY_URLS; known are oncall, payments",
    )
    notified.policy_file.write_text(ROUTES)
    assert await channels() == (0, 1)


async def test_what_a_rule_approves_is_notified_of_where_a_route_names_it(
    notified: Notified, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    silent = await notified.approvals.proposed(incident_id, risk="MEDIUM")
    notified.policy_file.write_text(
        f'{ROUTES}\n[notifications.audit]\nchannels = ["oncall"]\nevents = ["AUTO_APPROVED"]\n'
    )
    approved = await notified.approvals.proposed(incident_id, risk="MEDIUM")
    assert {silent.state, approved.state} == {State.STATE_APPROVED}
    (message,) = await received(notified.oncall, approved.approval_id, "AUTO_APPROVED")
    assert message.title == "Approved by a rule: NO_ACTION: observe first"
    assert "\nBy policy:observe, " in message.body
    assert [each async for each in notified.approvals.list_deliveries(
        approval_id=silent.approval_id, topics=["NOTIFICATION"]
    )] == []  # fmt: skip


async def test_a_service_without_urls_enqueues_no_message(approvals: Approvals, incidents: Incidents) -> None:
    proposed = await approvals.proposed(await incidents.opened_id())
    listed = approvals.list_deliveries(approval_id=proposed.approval_id, topics=["NOTIFICATION"])
    assert [each async for each in listed] == []


async def test_no_channel_is_notified_of_a_canary(notified: Notified, incidents: Incidents) -> None:
    incident_id = await incidents.opened_id(labels={"flywheel-canary": "true"})
    canary = await notified.approvals.proposed(incident_id, risk="HIGH")
    assert canary.canary
    await notified.approvals.approve(canary.approval_id)
    url = notified.service.database_url
    # A message is queued in the transaction of what it is about.
    queued = "SELECT dedup_key FROM outbox WHERE topic = $1 AND dedup_key LIKE $2 || '%'"
    assert await rows(url, queued, NOTIFY_TOPIC, canary.approval_id) == []
    operation = await notified.approvals.proposed(incident_id, SHOP, risk="HIGH")
    assert await received(notified.oncall, operation.approval_id, "PENDING")
    assert messages(notified.oncall, canary.approval_id) == []
