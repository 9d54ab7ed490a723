"""An approval service that notifies people: the receivers of two channels, and the routes to them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.approval.conftest import AT_REST
from tests.approval.schemas import approval_database, rows
from tests.callers import Approvals, approvals_at
from tests.eventually import eventually
from tests.receiver import Receiver, receiver
from tests.services import RunningService, healthy_service

ROUTES = """
[rules.observe]
actions = ["NO_ACTION"]
risks = ["MEDIUM"]

[notifications.high]
risks = ["HIGH", "CRITICAL"]
channels = ["oncall"]

[notifications.shop]
namespaces = ["shop"]
channels = ["payments"]
approvers = ["the payments team"]

[notifications.sandbox]
namespaces = ["sandbox"]
channels = []
"""
# In every URL of a receiver.
TOKEN = "sesame-open-yourself"


@dataclass(frozen=True)
class Message:
    """A message as a receiver got it."""

    title: str
    body: str
    level: str

    @property
    def message_id(self) -> str:
        """Its last line."""
        return self.body.splitlines()[-1]

    @property
    def event(self) -> str:
        """What it is about, by its id."""
        return self.message_id.split("/")[1].upper()


def messages(to: Receiver, approval_id: str) -> Sequence[Message]:
    """The messages about an approval, in the order in which a receiver got them."""
    found = [request.content for request in to.requests]
    return [
        Message(each["title"], each["message"], each["type"])
        for each in found
        if f"\n{approval_id}/" in each["message"]
    ]


async def received(to: Receiver, approval_id: str, *events: str) -> Sequence[Message]:
    """The messages about an approval, once a receiver has these; it must have no other."""

    async def read() -> Sequence[Message]:
        return messages(to, approval_id)

    found = await eventually(read, lambda found: len(found) >= len(events))
    assert sorted(each.event for each in found) == sorted(events)
    return sorted(found, key=lambda each: events.index(each.event))


@dataclass(frozen=True)
class Notified:
    """The service, its receivers by channel, and its policy file."""

    approvals: Approvals
    service: RunningService
    oncall: Receiver
    payments: Receiver
    policy_file: Path

    async def settled(self, approval_id: str) -> None:
        """Return when no message about an approval waits."""

        async def waiting() -> bool:
            listed = self.approvals.list_deliveries(
                approval_id=approval_id, topics=["NOTIFICATION"], states=["PENDING"]
            )
            return bool([each async for each in listed])

        await eventually(waiting, lambda found: not found)

    async def at_rest(self) -> None:
        """Return when no message waits, nor an expiry that will enqueue one: the next answer is for the next message."""
        await eventually(
            lambda: rows(
                self.service.database_url,
                "SELECT FROM outbox WHERE topic = 'approval.notify' AND state = 'PENDING'"
                " UNION ALL SELECT FROM approvals WHERE state = 'PENDING' AND expire_time <= now()",
            ),
            lambda found: not found,
        )


def url(to: Receiver, path: str = "") -> str:
    """A URL of Apprise's that posts JSON to a receiver, and holds a secret."""
    return f"json://user:{TOKEN}@127.0.0.1:{to.port}/{TOKEN}/{path}"


def variables(
    oncall: Receiver, payments: Receiver, policy_file: Path, incident_target: str
) -> dict[str, str]:
    """The settings of a service that notifies these receivers."""
    return {
        "APPROVAL_INCIDENT_TARGET": incident_target,
        "APPROVAL_POLICY_FILE": str(policy_file),
        "APPROVAL_NOTIFY_URLS": f"oncall={url(oncall)} payments={url(payments)}",
        "APPROVAL_NOTIFY_INTERVAL": "0",
        "APPROVAL_NOTIFY_REMIND_AFTER": "0",
        **AT_REST,
    }


@asynccontextmanager
async def notified_service(
    incident_target: str, folder: Path, database_url: str | None = None, **settings: str
) -> AsyncIterator[Notified]:
    """A service that notifies people, over a database of its own or this one, with `settings` besides."""
    policy_file = folder / "policy.toml"
    policy_file.write_text(ROUTES)
    async with (
        receiver() as oncall,
        receiver() as payments,
        approval_database() as own_url,
        healthy_service(
            "approval",
            database_url or own_url,
            variables=variables(oncall, payments, policy_file, incident_target) | settings,
        ) as running,
        approvals_at(running.address) as found,
    ):
        yield Notified(found, running, oncall, payments, policy_file)
        written = "".join(await asyncio.to_thread(list, running.lines))
        assert TOKEN not in written
