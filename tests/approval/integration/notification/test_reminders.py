"""Reminders: once for each proposal that waits, by however many processes; never after a decision."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
import pytest_asyncio

from approval.notification.jobs import Notifications
from approval.notification.reminders import remind
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from tests.approval.integration.notification.notified import (
    Notified,
    messages,
    notified_service,
    received,
    variables,
)
from tests.approval.schemas import end_leases, rows
from tests.callers import Incidents
from tests.eventually import eventually
from tests.receiver import Held, status
from tests.services import RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHOP = "RESTART deployment/web -n shop"
AFTER = timedelta(minutes=15)


@pytest_asyncio.fixture(loop_scope="session")
async def replicas(notified: Notified) -> AsyncIterator[Sequence[Transactions]]:
    """Two processes as the database sees them, whose messages the service of the tests sends."""
    engines = [
        create_engine(
            notified.service.database_url,
            application_name="tests-reminders",
            pool_size=2,
            statement_timeout_seconds=60,
        )
        for _ in range(2)
    ]
    yield [Transactions(engine, Outbox()) for engine in engines]
    for engine in engines:
        await engine.dispose()


async def _aged(notified: Notified, approval_ids: Sequence[str], age: timedelta) -> None:
    """Let approvals be so old."""
    await rows(
        notified.service.database_url,
        "UPDATE approvals SET create_time = now() - $2::interval WHERE approval_id = ANY ($1)",
        approval_ids,
        age,
    )


async def _reminded(replica: Transactions) -> None:
    while await remind(replica, Notifications(enabled=True), after=AFTER):
        pass


async def test_what_waits_long_is_reminded_of_once_by_two_replicas(
    notified: Notified, incidents: Incidents, replicas: Sequence[Transactions]
) -> None:
    incident_id = await incidents.opened_id()
    proposed = [await notified.approvals.proposed(incident_id, SHOP) for _ in range(12)]
    ids = [each.approval_id for each in proposed]
    await _aged(notified, ids[:10], timedelta(minutes=16))
    for _ in range(2):
        await asyncio.gather(*(_reminded(replica) for replica in replicas for _ in range(2)))
    enqueued = await rows(
        notified.service.database_url,
        "SELECT split_part(dedup_key, '/', 1) FROM outbox WHERE dedup_key LIKE '%/reminder/%'",
    )
    assert sorted(approval_id for (approval_id,) in enqueued) == sorted(ids[:10])
    for approval_id in ids[:10]:
        _, reminder = await received(notified.payments, approval_id, "PENDING", "REMINDER")
        assert reminder.title == f"Approval still needed: {SHOP}"
        assert " UTC, waits for 16 min " in reminder.body
        assert "\ngrpcurl -plaintext " in reminder.body
    for approval_id in ids[10:]:
        await received(notified.payments, approval_id, "PENDING")
    # A reminder changes nothing about the approval: who has read it may still decide.
    approved = await notified.approvals.approve(ids[0], etag=proposed[0].etag)
    assert approved.decisions


async def test_a_reminder_has_the_approvals_so_far(
    notified: Notified, incidents: Incidents, replicas: Sequence[Transactions]
) -> None:
    proposed = await notified.approvals.proposed(await incidents.opened_id(), SHOP, required_approvals=2)
    await notified.approvals.approve(proposed.approval_id, actor="alice")
    await _aged(notified, [proposed.approval_id], AFTER)
    await _reminded(replicas[0])
    _, reminder = await received(notified.payments, proposed.approval_id, "PENDING", "REMINDER")
    assert "; 2 approvals needed, 1 given\n" in reminder.body


async def test_what_was_decided_or_is_past_its_expiry_is_not_reminded_of(
    notified: Notified, incidents: Incidents, replicas: Sequence[Transactions]
) -> None:
    incident_id = await incidents.opened_id()
    approvals = notified.approvals
    decided = [await approvals.proposed(incident_id, SHOP) for _ in range(4)]
    await approvals.approve(decided[0].approval_id)
    await approvals.reject(decided[1].approval_id, reason="no")
    await approvals.cancel(decided[2].approval_id, actor="proposer")
    ids = [each.approval_id for each in decided]
    await _aged(notified, ids, AFTER)
    # Not marked as expired yet.
    await rows(
        notified.service.database_url,
        "UPDATE approvals SET expire_time = now() WHERE approval_id = $1",
        ids[3],
    )
    await _reminded(replicas[0])
    reminders = await rows(
        notified.service.database_url,
        "SELECT approval_id FROM approvals WHERE approval_id = ANY ($1) AND reminder_time IS NOT NULL",
        ids,
    )
    assert reminders == []
    for approval_id, end in zip(ids, ["APPROVED", "REJECTED", "CANCELLED", "EXPIRED"], strict=True):
        await received(notified.payments, approval_id, "PENDING", end)


async def test_a_reminder_that_waits_while_the_proposal_is_decided_is_not_sent(
    notified: Notified, incidents: Incidents, replicas: Sequence[Transactions]
) -> None:
    proposed = await notified.approvals.proposed(await incidents.opened_id(), SHOP)
    await received(notified.payments, proposed.approval_id, "PENDING")
    # Any other message would take the answer that is meant for the reminder.
    await notified.at_rest()
    held = Held(status(503))
    notified.payments.answers.append(held)
    await _aged(notified, [proposed.approval_id], AFTER)
    await _reminded(replicas[0])
    await received(notified.payments, proposed.approval_id, "PENDING", "REMINDER")
    await notified.approvals.approve(proposed.approval_id)
    held.release.set()
    await notified.service.logged(
        "notification_dropped", approval_id=proposed.approval_id, event_kind="REMINDER"
    )
    await notified.settled(proposed.approval_id)
    await received(notified.payments, proposed.approval_id, "PENDING", "REMINDER", "APPROVED")


async def test_the_services_remind_by_themselves_and_a_kill_loses_and_doubles_no_reminder(
    incident_service: RunningService,
    incidents: Incidents,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    incident_id = await incidents.opened_id()
    settings = {"APPROVAL_NOTIFY_REMIND_AFTER": "200ms"}
    async with notified_service(
        incident_service.address, tmp_path_factory.mktemp("reminders"), **settings
    ) as one:
        url = one.service.database_url
        others = variables(one.oncall, one.payments, one.policy_file, incident_service.address) | settings
        async with healthy_service("approval", url, variables=others):
            proposed = [await one.approvals.proposed(incident_id, SHOP) for _ in range(10)]
            await eventually(lambda: rows(url, "SELECT FROM approvals WHERE reminder_time IS NOT NULL"))
            await asyncio.to_thread(one.service.kill)
            await end_leases(url)

            async def waiting() -> Sequence[object]:
                return await rows(
                    url,
                    "SELECT FROM approvals WHERE reminder_time IS NULL"
                    " UNION ALL SELECT FROM outbox WHERE topic = 'approval.notify' AND state = 'PENDING'",
                )

            await eventually(waiting, lambda found: not found)
            reminders = await rows(url, "SELECT FROM outbox WHERE dedup_key LIKE '%/reminder/%'")
    assert len(reminders) == 10
    for each in proposed:
        ids = {found.message_id for found in messages(one.payments, each.approval_id)}
        assert len([found for found in ids if "/reminder/" in found]) == 1
