"""Databases with a history: filled once in a run, by `benchmarks.history`; every test gets a copy."""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

from benchmarks.history.approvals import fill_approvals
from benchmarks.history.incidents import fill_incidents
from benchmarks.history.shape import Shape
from tests.approval.schemas import migrate_approval
from tests.databases import cloned_database
from tests.migrated import migrate_incident

# Twenty times what any bounded statement reads, in a second or two.
INCIDENTS = 4000


def incident_history() -> AbstractAsyncContextManager[str]:
    """The URL of an incident database with a history, of one's own."""
    return cloned_database("incident_history", _fill_incidents)


def approval_history() -> AbstractAsyncContextManager[str]:
    """The URL of an approval database with the history of the same incidents, of one's own."""
    return cloned_database("approval_history", _fill_approvals)


async def _fill_incidents(url: str) -> None:
    await migrate_incident(url)
    await fill_incidents(url, _shape(), _silent)


async def _fill_approvals(url: str) -> None:
    await migrate_approval(url)
    await fill_approvals(url, _shape(), _silent)


def _shape() -> Shape:
    # Two batches, so that their border is in every test.
    return Shape(incidents=INCIDENTS, until=datetime.now(UTC), batch=INCIDENTS // 2)


def _silent(_text: str) -> None:
    pass
