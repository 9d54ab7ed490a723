"""Incidents as they are after some time."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]


async def age(rows: "Rows", column: str, incident_ids: Sequence[str], ago: timedelta) -> None:
    """Set a time of incidents to so long ago."""
    await rows.execute(
        f"UPDATE incidents SET {column} = now() - $1::interval WHERE incident_id = ANY ($2)",  # noqa: S608 - constants
        ago,
        incident_ids,
    )
