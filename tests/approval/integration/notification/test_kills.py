"""Kill -9 between a commit and its message, and between a message and its mark."""

import signal
from contextlib import suppress
from pathlib import Path

import pytest

from awoooi.client import CallError
from tests.approval.integration.notification.notified import (
    Notified,
    messages,
    notified_service,
    variables,
)
from tests.approval.schemas import approval_database, end_leases
from tests.callers import Incidents, approvals_at
from tests.services import RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHOP = "RESTART deployment/web -n shop"


@pytest.mark.parametrize(
    ("failpoint", "count"),
    [("outbox_claimed:approval.notify", 1), ("outbox_delivered:approval.notify", 2)],
    ids=["before the message", "before the mark"],
)
async def test_a_message_survives_a_kill_and_keeps_its_id(
    incident_service: RunningService,
    incidents: Incidents,
    tmp_path: Path,
    failpoint: str,
    count: int,
) -> None:
    incident_id = await incidents.opened_id()
    async with (
        approval_database() as url,
        notified_service(incident_service.address, tmp_path, url, FAILPOINTS=failpoint) as dying,
    ):
        # The commit is there before the process dies; its response may be lost.
        with suppress(CallError):
            await dying.approvals.proposed(incident_id, SHOP, request_id="once")
        assert await dying.service.ended() == -signal.SIGKILL
        await end_leases(url)
        settings = variables(dying.oncall, dying.payments, dying.policy_file, incident_service.address)
        async with (
            healthy_service("approval", url, variables=settings) as again,
            approvals_at(again.address) as approvals,
        ):
            proposed = await approvals.proposed(incident_id, SHOP, request_id="once")
            notified = Notified(approvals, again, dying.oncall, dying.payments, dying.policy_file)
            await notified.settled(proposed.approval_id)
        found = messages(dying.payments, proposed.approval_id)
        assert len(found) == count
        assert len(set(found)) == 1
