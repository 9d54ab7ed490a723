"""Everything an attack runs in: the services, data to ask for, good clients, a receiver of webhooks."""

import asyncio
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from awoooi.client import IncidentClient
from hostile.attacks.catalogue import INTERIM_ANSWERS
from hostile.errors import HostileError
from hostile.good import GoodClients, good_clients
from hostile.receiver import Receiver, running_receiver
from hostile.stack import Stack, running_stack
from hostile.target import Target

_LARGE_INCIDENTS = 40
_FEWEST_READS = 3
_WIDE = "🔥"
_KNOWLEDGE = """
INSERT INTO knowledge (knowledge_id, symptom_key, resolution_type, action, incident_id, symptoms, resolution,
    use_count, success_count, resolution_seconds_sum)
SELECT 'hostile-' || n, 'key-' || n, 'HUMAN', '', '',
    (SELECT string_agg('w' || (n * 31 + k * 7) % 97, ' ') FROM generate_series(1, 30) AS k), 'restart', 1, 1, 1
FROM generate_series(1, $1::int) AS n
"""
_ATTACKER_GRACE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Field:
    """What is there."""

    stack: Stack
    good: GoodClients
    receiver: Receiver
    step: Callable[[str], None]

    async def attack(self, name: str, *, seconds: float, scale: float) -> str:
        """Attack for so long and return what the attacker did."""
        if name == INTERIM_ANSWERS:
            return await self._send_interim_answers(seconds)
        target = Target(
            self.stack.incident,
            self.stack.approval,
            self.stack.gateway,
            self.stack.database_url,
            seconds,
            scale,
        )
        attacker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hostile.attacker",
            name,
            json.dumps(dataclasses.asdict(target)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(seconds + _ATTACKER_GRACE_SECONDS):
                said, complained = await attacker.communicate()
        finally:
            if attacker.returncode is None:
                attacker.kill()
                await attacker.wait()
        if attacker.returncode:
            raise HostileError(f"the attacker {name!r} failed:\n{complained.decode()[-2000:]}")
        return said.decode().strip()

    async def _send_interim_answers(self, seconds: float) -> str:
        before = await self.receiver.behave(hostile=True)
        try:
            await asyncio.sleep(seconds)
        finally:
            after = await self.receiver.behave(hostile=False)
        return f"{after - before} webhooks"


@asynccontextmanager
async def open_field(data_dir: Path, *, scale: float, step: Callable[[str], None]) -> AsyncIterator[Field]:
    """Start everything in `data_dir`, which is made, and remove it afterwards."""
    if await asyncio.to_thread(data_dir.exists):
        raise HostileError(f"{data_dir} exists already: another run uses it, or was killed; remove it")
    step("starting the services")
    try:
        async with running_receiver() as receiver:
            variables = {
                "INCIDENT_WEBHOOK_URL": f"http://{receiver.address}/hook",
                "INCIDENT_WEBHOOK_SECRET": "a secret of many characters",
                # Fewer heavy reads at a time than the database has processors, as docs/configuration.md recommends.
                "INCIDENT_DATABASE_READ_POOL_SIZE": str(max(_FEWEST_READS, (os.cpu_count() or 1) + 1)),
            }
            with running_stack(data_dir, variables) as stack:
                await _prepare(stack, scale)
                async with good_clients(stack) as good:
                    yield Field(stack, good, receiver, step)
    finally:
        await asyncio.to_thread(shutil.rmtree, data_dir, ignore_errors=True)


async def _prepare(stack: Stack, scale: float) -> None:
    async with IncidentClient(stack.incident, actor="hostile") as client:
        for number in range(_LARGE_INCIDENTS):
            await client.create(
                title=_WIDE * 500,
                description="x" * 8192,
                severity="LOW",
                labels={f"{key:02}" + "k" * 254: _WIDE * 256 for key in range(64)},
                source=f"hostile-{number}",
            )
    connection = await asyncpg.connect(stack.database_url)
    try:
        await connection.execute(_KNOWLEDGE, max(1, round(20_000 * scale)))
    finally:
        await connection.close()
