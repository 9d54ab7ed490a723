"""Effects that are disabled: on record as SKIPPED, and no work for a worker."""

import asyncio
from typing import TYPE_CHECKING

from tests.callers import Incidents
from tests.incident.side_effects import NOTIFICATION, WEBHOOK, SideEffect, ended
from tests.services import TIMEOUT_SECONDS

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]


async def test_a_resolution_whose_effects_are_disabled_or_leased_wakes_no_worker(
    incidents: Incidents, rows: "Rows"
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await rows.add_listener("outbox", lambda *arguments: heard.put_nowait(str(arguments[-1])))
    incident = await incidents.resolved()
    found = await ended(incidents, incident.incident_id)
    assert {each for each, effect in found.items() if effect.state == SideEffect.STATE_SKIPPED} == {
        NOTIFICATION,
        WEBHOOK,
    }
    # Notifications are heard in the order of their commits: nothing was notified before this one.
    await rows.execute("NOTIFY outbox, 'the end'")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert await heard.get() == "the end"
