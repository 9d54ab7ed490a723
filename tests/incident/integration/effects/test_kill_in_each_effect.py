"""Kills before and after each effect of a resolution: after a restart each has taken effect exactly once."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
import pytest_asyncio

from incident.model import Effect
from tests.incident.incidents import HUMAN, NO_ACTION, effects_settled
from tests.incident.side_effects import EFFECTS, ConnectedService, SideEffect, connected_service, side_effects
from tests.outbox_due import make_due
from tests.services import TIMEOUT_SECONDS

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

EXTERNAL = (Effect.NOTIFICATION, Effect.WEBHOOK)
BEFORE = "outbox_claimed"


def instants(effect: Effect) -> Sequence[str]:
    """Before the effect, and after it: delivered and not marked, or written and not committed."""
    return (BEFORE, "outbox_delivered" if effect in EXTERNAL else "outbox_before_done_commit")


@pytest_asyncio.fixture
async def rows(database: str) -> "AsyncIterator[Rows]":
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.mark.slow
async def test_after_a_kill_before_or_after_any_effect_each_takes_effect_exactly_once(
    database: str, rows: "Rows"
) -> None:
    killed: dict[tuple[Effect, str], str] = {}
    deliveries: Counter[str] = Counter()
    for effect, instant in ((each, when) for each in Effect for when in instants(each)):
        async with connected_service(database, {"FAILPOINTS": f"{instant}:{effect.topic}"}) as doomed:
            incident_id = killed[effect, instant] = await resolved(doomed, f"{effect} {instant}")
            async with asyncio.timeout(TIMEOUT_SECONDS):
                assert await doomed.service.ended() == -signal.SIGKILL
            deliveries += received_by(doomed)
        # It died in this effect of this incident.
        state = "SELECT state FROM outbox WHERE topic = $1 AND payload ->> 'incident_id' = $2"
        assert await rows.fetchval(state, effect.topic, incident_id) == "PENDING"
        # Its jobs wait for the last process; every other process dies in an effect of its own.
        await make_due(rows, timedelta(hours=1))

    async with connected_service(database) as last:
        await make_due(rows)
        await effects_settled(rows)
        deliveries += received_by(last)
        for (effect, _), incident_id in killed.items():
            found = await side_effects(last.incidents, incident_id)
            assert {each.state for each in found.values()} == {SideEffect.STATE_DONE}
            assert set(found) == set(EFFECTS)
            assert found[SideEffect.Effect.Value(f"EFFECT_{effect}")].attempts == 2
            types = await last.incidents.event_types(incident_id)
            assert (types.count("RESOLVED"), types.count("EFFECT_DONE")) == (1, len(Effect))
            again = await last.incidents.resolve(incident_id, resolution_type=HUMAN)
            assert again.already_resolved

    for table in ("postmortems", "dispositions", "knowledge_uses"):
        kept = await rows.fetch(f"SELECT incident_id, resolution_number FROM {table}")  # noqa: S608 - constants
        assert sorted(map(tuple, kept)) == sorted((each, 1) for each in killed.values()), table
    assert await counted(rows) == {
        "incidents_resolved": len(killed),
        "resolution_seconds_bucket": len(killed),
    }
    assert await rows.fetchval("SELECT sum(use_count) FROM knowledge") == len(killed)

    # External systems: at-least-once delivery, twice only where the process died between delivery and mark.
    for (effect, instant), incident_id in killed.items():
        for external in EXTERNAL:
            times = deliveries[f"{incident_id}/{external.value}"]
            if external is effect:
                assert times == (1 if instant == BEFORE else 2), (effect, instant)
            else:
                assert times in (1, 2), (effect, instant, external)


async def resolved(doomed: ConnectedService, title: str) -> str:
    """Open and resolve an incident; the process may die before the response."""
    incident_id = (await doomed.incidents.opened(title=title)).incident_id
    await asyncio.gather(
        doomed.incidents.resolve(incident_id, resolution_type=NO_ACTION), return_exceptions=True
    )
    return incident_id


def received_by(process: ConnectedService) -> Mapping[str, int]:
    """How often the receivers of a process got each incident."""
    posts = [f"{post.content['incident_id']}/{Effect.WEBHOOK.value}" for post in process.webhook.requests]
    for post in process.webhook.requests:
        assert post.headers["webhook-id"] == f"{post.content['incident_id']}/webhook/1"
    messages = [
        f"{message.content['message'].split(',')[0]}/{Effect.NOTIFICATION.value}"
        for message in process.people.requests
    ]
    return Counter(posts + messages)


async def counted(rows: "Rows") -> Mapping[str, int]:
    """The counters that a resolution raises by one."""
    found = await rows.fetch(
        """
        SELECT name, sum(value)::bigint AS value FROM counters
        WHERE name IN ('incidents_resolved', 'resolution_seconds_bucket') GROUP BY name
        """
    )
    return {row["name"]: row["value"] for row in found}
