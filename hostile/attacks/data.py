"""Attacks by what the database holds."""

import asyncio
import time

import asyncpg
import httpx2

from hostile.target import Target

_EVENTS = 600_000
_STUCK = 100_000
_INCIDENTS = """
INSERT INTO incidents (
    incident_id, title, description, severity, state, fingerprint, labels, source, create_time, open_time,
    update_time, last_progress_time, opened_by, version, content_hash)
SELECT 'INC-20200102-' || upper(left(md5($1::text || n::text), 12)), 'stuck', '', 'MEDIUM', 'OPEN', '', '{}', 'hostile',
    now() - interval '1 day', now() - interval '1 day', now() - interval '1 day', now() - interval '1 day', 'hostile', 1,
    md5(n::text)
FROM generate_series(1, $2::int) AS n
RETURNING incident_id
"""
_TIMELINES = """
INSERT INTO incident_events (event_id, incident_id, type, actor, event_time, summary, resolution_number)
SELECT gen_random_uuid()::text, incident_id, 'NOTE', 'hostile', now() - interval '1 day', repeat('x', 200), 0
FROM unnest($1::text[]) AS incident_id, generate_series(1, $2::int) AS n
"""


async def many_stuck(target: Target) -> str:
    """Scrapes over 600,000 events on ten stuck incidents, and 100,000 stuck ones more."""
    run = str(time.time_ns())
    connection = await asyncpg.connect(target.database_url)
    try:
        ten = await connection.fetch(_INCIDENTS, run, 10)
        ids = [row["incident_id"] for row in ten]
        await connection.execute(_TIMELINES, ids, target.number(_EVENTS) // 10)
        await connection.execute(_INCIDENTS, f"{run}more", target.number(_STUCK))
    finally:
        await connection.close()
    return await _scrapes(target)


async def _scrapes(target: Target) -> str:
    slowest, down, number = 0.0, 0, 0
    deadline = time.monotonic() + target.seconds
    async with httpx2.AsyncClient(base_url=f"http://{target.gateway}", timeout=60, trust_env=False) as client:
        while time.monotonic() < deadline or not number:
            started = time.monotonic()
            response = await client.get("/metrics")
            slowest = max(slowest, time.monotonic() - started)
            number += 1
            down += sum(
                line.endswith(" 0.0")
                for line in response.text.splitlines()
                if "source_up{" in line and line[0] != "#"
            )
            await asyncio.sleep(0.2)
    return f"{number} scrapes, the slowest {slowest:.1f} s, {down} with a source down"
