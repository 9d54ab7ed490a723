"""Alerts while the intake and the incident service are killed: none lost, none doubled.

    python -m chaos.alerts --alerts 10000

Two Alertmanagers post every notification, as they do when they cannot reach each other, until it is answered with 200. Each
alert fires and ends, and a part of them fires and ends once more. Meanwhile the two services are killed with SIGKILL, at random.
"""

import argparse
import asyncio
import json
import math
import os
import random
import secrets
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from awoooi.client import IncidentClient
from awoooi.incident.v1 import incident_pb2
from flywheel.stack.stack import Stack

_VICTIMS = ("intake", "incident")
_ALERTMANAGERS = 2
_GROUP = 20
# Of the alerts, those that fire a second time.
_FLAPPING = 0.2
_BACKOFF_SECONDS = 0.2
_TIMEOUT_SECONDS = 60.0
_ANYWHERE = "127.0.0.1:0"
_NO_TIME = "0001-01-01T00:00:00Z"


@dataclass
class Outcome:
    """What happened, and what is wrong with it."""

    incidents: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    repeated_posts: int = 0
    problems: list[str] = field(default_factory=list)


async def run(
    directory: Path,
    *,
    alerts: int,
    seed: int,
    pause: tuple[float, float] = (0.5, 3.0),
    max_kills: float = math.inf,
) -> Outcome:
    """Post so many alerts to a stack in `directory`; `pause` is the least and the most between two kills, in seconds."""
    stack = Stack(
        directory,
        incident_listen=_ANYWHERE,
        approval_listen=_ANYWHERE,
        gateway_listen=_ANYWHERE,
        intake_listen=_ANYWHERE,
    )
    await asyncio.to_thread(stack.start)
    try:
        chance = random.Random(seed)  # noqa: S311 - no secret
        return await _Chaos(stack, chance, pause, max_kills).run(alerts)
    finally:
        await asyncio.to_thread(stack.stop)


class _Chaos:
    def __init__(
        self, stack: Stack, chance: random.Random, pause: tuple[float, float], max_kills: float
    ) -> None:
        self._stack = stack
        self._chance = chance
        self._pause = pause
        self._max_kills = max_kills
        self._outcome = Outcome()
        self._each_was_killed = asyncio.Event()

    async def run(self, alerts: int) -> Outcome:
        fingerprints = [secrets.token_hex(8) for _ in range(alerts)]
        groups = [fingerprints[first : first + _GROUP] for first in range(0, alerts, _GROUP)]
        flapping = groups[: max(1, int(len(groups) * _FLAPPING))]
        killing = asyncio.create_task(self._kill())
        try:
            async with httpx2.AsyncClient(
                base_url=f"http://{self._stack.intake.address}", trust_env=False, timeout=_TIMEOUT_SECONDS
            ) as client:
                places = asyncio.Semaphore(16)
                async with asyncio.TaskGroup() as tasks:
                    for number, group in enumerate(groups):
                        firings = 2 if group in flapping else 1
                        # The last one ends when each service was killed.
                        is_last = number == len(groups) - 1
                        tasks.create_task(self._live(client, places, group, firings, is_last=is_last))
        finally:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
        await asyncio.to_thread(self._start_all)
        await self._check({each: 2 if group in flapping else 1 for group in groups for each in group})
        return self._outcome

    async def _live(
        self,
        client: httpx2.AsyncClient,
        places: asyncio.Semaphore,
        group: Sequence[str],
        firings: int,
        *,
        is_last: bool,
    ) -> None:
        """Let a group of alerts fire and end."""
        if is_last:
            await self._each_was_killed.wait()
        async with places:
            began = datetime.now(UTC)
            for firing in range(firings):
                starts_at = began + timedelta(minutes=2 * firing)
                for ends_at in (None, starts_at + timedelta(minutes=1)):
                    body = _notification(group, starts_at, ends_at)
                    await asyncio.gather(*(self._post(client, body) for _ in range(_ALERTMANAGERS)))

    async def _post(self, client: httpx2.AsyncClient, body: bytes) -> None:
        while True:
            try:
                headers = {"Content-Type": "application/json"}
                response = await client.post("/alertmanager", content=body, headers=headers)
                if response.status_code == httpx2.codes.OK:
                    return
                if response.status_code < httpx2.codes.INTERNAL_SERVER_ERROR:
                    self._outcome.problems.append(f"{response.status_code}: {response.text}")
                    return
            except httpx2.TransportError:
                pass
            self._outcome.repeated_posts += 1
            await asyncio.sleep(_BACKOFF_SECONDS)

    async def _kill(self) -> None:
        victims = list(_VICTIMS)
        self._chance.shuffle(victims)
        while self._outcome.kills.total() < self._max_kills:
            await asyncio.sleep(self._chance.uniform(*self._pause))
            victim = victims.pop() if victims else self._chance.choice(_VICTIMS)
            service = getattr(self._stack, victim)
            if service.pid is None or service.exit_status() is not None:
                continue
            os.kill(service.pid, signal.SIGKILL)
            self._outcome.kills[victim] += 1
            while service.exit_status() is None:  # noqa: ASYNC110 - the end of a process has no event here
                await asyncio.sleep(0.01)
            await asyncio.to_thread(service.restart)
            # One that is killed before it serves, again and again, is no outage that an alert could outlast.
            while not await asyncio.to_thread(service.is_ready):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
            if not victims:
                self._each_was_killed.set()

    def _start_all(self) -> None:
        for victim in _VICTIMS:
            getattr(self._stack, victim).start()

    async def _check(self, expected: dict[str, int]) -> None:
        """Compare the incidents with the firings."""
        found: Counter[str] = Counter()
        problems = self._outcome.problems
        async with IncidentClient(str(self._stack.incident.address), timeout=_TIMEOUT_SECONDS) as incidents:
            async for incident in incidents.list(page_size=500):
                found[incident.fingerprint] += 1
                if incident.state != incident_pb2.Incident.STATE_RESOLVED:
                    problems.append(f"{incident.incident_id} is not resolved")
                if incident.resolution_type != incident_pb2.RESOLUTION_TYPE_EXPIRED_ALERT:
                    problems.append(f"{incident.incident_id} was resolved otherwise")
                if (incident.occurrence_count, incident.resolution_number) != (1, 1):
                    problems.append(f"{incident.incident_id} was counted or resolved more than once")
        self._outcome.incidents = found.total()
        for fingerprint in expected.keys() | found.keys():
            if found[fingerprint] != expected.get(fingerprint, 0):
                problems.append(
                    f"{fingerprint} has {found[fingerprint]} incidents, not {expected.get(fingerprint, 0)}"
                )


def _notification(group: Sequence[str], starts_at: datetime, ends_at: datetime | None) -> bytes:
    status = "firing" if ends_at is None else "resolved"
    alerts: list[dict[str, Any]] = [
        {
            "status": status,
            "labels": {"alertname": "DiskFull", "severity": "critical", "disk": fingerprint},
            "annotations": {"summary": f"Disk {fingerprint} is full"},
            "startsAt": starts_at.isoformat(),
            "endsAt": _NO_TIME if ends_at is None else ends_at.isoformat(),
            "generatorURL": "http://prometheus:9090/graph",
            "fingerprint": fingerprint,
        }
        for fingerprint in group
    ]
    content = {
        "version": "4",
        "groupKey": f"{{}}:{{{group[0]}}}",
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "flywheel",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": alerts,
    }
    return json.dumps(content).encode()


def main() -> int:
    """Run the command line and return its exit code: 1 when something was lost or doubled."""
    parser = argparse.ArgumentParser(
        prog="python -m chaos.alerts", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--alerts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None, help="of the kills; default: another one each time")
    arguments = parser.parse_args()
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    with tempfile.TemporaryDirectory() as directory:
        outcome = asyncio.run(run(Path(directory), alerts=arguments.alerts, seed=seed))
    kills = ", ".join(f"{name} {count}" for name, count in sorted(outcome.kills.items()))
    print(f"{outcome.incidents} incidents of {arguments.alerts} alerts; killed: {kills}; seed {seed}")
    print(f"{outcome.repeated_posts} posts were repeated; {len(outcome.problems)} problems")
    for problem in outcome.problems[:20]:
        print(f"  {problem}")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
