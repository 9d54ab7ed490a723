"""Ids that no other test uses, and the end of an incident's side effects."""

import secrets
from typing import TYPE_CHECKING

import asyncpg

from awoooi.incident.v1 import incident_pb2

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

NO_ACTION = incident_pb2.RESOLUTION_TYPE_NO_ACTION
HUMAN = incident_pb2.RESOLUTION_TYPE_HUMAN
OPEN = incident_pb2.Incident.STATE_OPEN
INVESTIGATING = incident_pb2.Incident.STATE_INVESTIGATING
RESOLVED = incident_pb2.Incident.STATE_RESOLVED
UNKNOWN_ID = "INC-20200101-00000000DEAD"


def token() -> str:
    """A word that no other test uses."""
    return secrets.token_hex(8)


def new_id() -> str:
    """An incident id that no other test uses."""
    return f"INC-20260507-{secrets.token_hex(6).upper()}"


def version(incident: incident_pb2.Incident) -> int:
    """The number in an etag that grows with every change."""
    return int(incident.etag.partition("-")[0])


async def effects_settled(rows: "Rows") -> None:
    """Return when no job is PENDING any more, by the database, not by a clock of ours."""
    pending = "SELECT count(*) FROM outbox WHERE state = 'PENDING'"
    while await rows.fetchval(pending):
        # The workers' marks are transactions: each look is a round trip, and the table is small.
        await rows.execute("SELECT pg_sleep(0.02)")
