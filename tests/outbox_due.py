"""Time that passes for the jobs of an outbox: leases and backoffs end."""

from datetime import timedelta
from typing import Any

from servicekit.outbox.tables import NOTIFY_CHANNEL

AT_ONCE = timedelta(0)


async def make_due(connection: Any, after: timedelta = AT_ONCE) -> None:
    """Let every PENDING job fall due `after` from now, whether it is leased or waits for its next attempt.

    The table is locked first: a worker marks several jobs in one statement, and locks them in another order.
    """
    async with connection.transaction():
        await connection.execute("LOCK TABLE outbox IN EXCLUSIVE MODE")
        await connection.execute(
            "UPDATE outbox SET next_attempt_time = clock_timestamp() + $1::interval WHERE state = 'PENDING'",
            after,
        )
        if after == AT_ONCE:
            # As when a job is new: a worker need not look again by itself.
            await connection.execute("SELECT pg_notify($1, '')", NOTIFY_CHANNEL)
