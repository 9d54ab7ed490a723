"""Processes of the approval service that come and go over one database, and the hooks that they may call."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.approval.hooks import WITHOUT_LIMITS, Hooked, hook_variables, hooked_service
from tests.approval.schemas import approval_database, incident_database, rows
from tests.callers import Incidents, incidents_at
from tests.receiver import Receiver, receiver
from tests.services import healthy_service


@dataclass(frozen=True)
class World:
    """What processes of the approval service come and go over."""

    url: str
    incidents: Incidents
    receiver: Receiver
    variables: Mapping[str, str]

    def process(self, **variables: str) -> AbstractAsyncContextManager[Hooked]:
        """A process."""
        return hooked_service(self.url, self.receiver, {**self.variables, **variables})

    def requests(self, approval_id: str) -> int:
        """How often a hook was called because of an approval."""
        return Counter(each.headers["idempotency-key"] for each in self.receiver.requests)[approval_id]


@asynccontextmanager
async def operated_world(folder: Path) -> AsyncIterator[World]:
    """The databases, the incident service and the hooks, and no process of the approval service."""
    async with (
        incident_database() as incident_url,
        healthy_service("incident", incident_url) as incident,
        incidents_at(incident.address) as incidents,
        approval_database() as url,
        receiver() as hooks,
    ):
        variables = {
            "APPROVAL_INCIDENT_TARGET": incident.address,
            **hook_variables(folder, hooks),
            **WITHOUT_LIMITS,
        }
        yield World(url, incidents, hooks, variables)


async def let_leases_end_in(url: str, time: str) -> None:
    """Let the lease of every operation end after this time: no test has to wait for it."""
    await rows(
        url,
        "UPDATE approvals SET execution_lease_until = now() + $1::text::interval WHERE state = 'EXECUTING'",
        time,
    )
