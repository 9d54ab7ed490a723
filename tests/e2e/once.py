"""What "resolved once" means, looked up in both databases."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.approval.schemas import rows
from tests.eventually import eventually


async def outbox_at_rest(url: str) -> None:
    """Return when nothing waits any more."""
    statement = "SELECT FROM outbox WHERE state = 'PENDING'"
    await eventually(lambda: rows(url, statement), lambda waiting: not waiting)


async def assert_resolved_once(incident_url: str, incident_ids: Sequence[str]) -> None:
    """Each incident is RESOLVED as NO_ACTION, with one event, one postmortem and one disposition; nothing waits."""
    await outbox_at_rest(incident_url)
    ids = list(incident_ids)
    found = await rows(
        incident_url,
        "SELECT state, resolution_type, resolution_number FROM incidents WHERE incident_id = ANY ($1)",
        ids,
    )
    assert found == [("RESOLVED", "NO_ACTION", 1)] * len(ids)
    for statement in (
        "SELECT incident_id FROM incident_events WHERE type = 'RESOLVED' AND incident_id = ANY ($1)",
        "SELECT incident_id FROM postmortems WHERE incident_id = ANY ($1)",
        "SELECT incident_id FROM dispositions WHERE incident_id = ANY ($1)",
    ):
        once = sorted(incident_id for (incident_id,) in await rows(incident_url, statement, ids))
        assert once == sorted(ids), statement


@dataclass(frozen=True)
class Noops:
    """What the approval service has counted."""

    executions: int
    resolutions: int


async def noops_counted(approval_url: str) -> Noops:
    """How many NO_ACTION were executed and how many acknowledged; none of them is in the log of repairs."""
    assert not await rows(approval_url, "SELECT FROM auto_repair_executions")
    return Noops(
        await _counter(approval_url, "executions", "NOOP"),
        await _counter(approval_url, "noop_resolutions", ""),
    )


async def resolutions_counted(incident_url: str) -> int:
    """How many NO_ACTION resolutions the incident service has counted."""
    return await _counter(incident_url, "incidents_resolved", "NO_ACTION")


async def _counter(url: str, name: str, label: str) -> int:
    statement = "SELECT coalesce(sum(value), 0)::bigint FROM counters WHERE name = $1 AND label = $2"
    ((value,),) = await rows(url, statement, name, label)
    return int(value)
