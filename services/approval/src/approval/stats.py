"""The figures of this service: read from counters, partial indexes and the last day's rows, never from history."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.types import Float

from approval.deliveries import RESOLVE_TOPIC
from approval.repository import APPROVALS, EXECUTIONS, NOOP_RESOLUTIONS
from servicekit.counters import read_counters
from servicekit.outbox.queue import count_open

WINDOW = timedelta(hours=24)


_NOW = text("SELECT now()")


@dataclass(frozen=True, slots=True)
class ApprovalFigures:
    """Everything that this service tells about the loop."""

    # By the database's clock.
    read_time: datetime
    samples: int
    successes: int
    executions: Mapping[str, int]
    noop_resolutions: int
    approvals: Mapping[str, int]
    approval_oldest_pending_seconds: float
    # PENDING and PARKED; a state without any is not there.
    deliveries: Mapping[str, int]
    delivery_oldest_pending_seconds: float


_REPAIRS = text("""
    SELECT count(*), count(*) FILTER (WHERE succeeded) FROM auto_repair_executions
    WHERE finish_time > now() - make_interval(secs => :window_seconds)
""").bindparams(bindparam("window_seconds", type_=Float))
_OLDEST_PENDING = text("""
    SELECT coalesce(extract(epoch FROM now() - min(create_time)), 0)::float8 FROM approvals WHERE state = 'PENDING'
""")


async def read_figures(engine: AsyncEngine) -> ApprovalFigures:
    """Return the figures as of one snapshot of the database."""
    async with engine.execution_options(isolation_level="REPEATABLE READ").begin() as connection:
        return await _read(connection)


async def _read(connection: AsyncConnection) -> ApprovalFigures:
    samples, successes = (
        await connection.execute(_REPAIRS, {"window_seconds": WINDOW.total_seconds()})
    ).one()
    oldest_pending = (await connection.execute(_OLDEST_PENDING)).scalar_one()
    counters = await read_counters(connection)
    resolves = [job for job in await count_open(connection) if job.topic == RESOLVE_TOPIC]
    return ApprovalFigures(
        read_time=(await connection.execute(_NOW)).scalar_one(),
        samples=samples,
        successes=successes,
        executions=_labelled(counters, EXECUTIONS),
        noop_resolutions=counters.get((NOOP_RESOLUTIONS, ""), 0),
        approvals=_labelled(counters, APPROVALS),
        approval_oldest_pending_seconds=oldest_pending,
        deliveries={job.state: job.count for job in resolves},
        delivery_oldest_pending_seconds=max(
            (job.oldest_seconds for job in resolves if job.state == "PENDING"), default=0.0
        ),
    )


def _labelled(counters: Mapping[tuple[str, str], int], name: str) -> Mapping[str, int]:
    return {label: value for (counter, label), value in counters.items() if counter == name}
