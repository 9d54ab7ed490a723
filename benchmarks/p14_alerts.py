"""P14: how long an alert takes from POST to its committed incident at 100 alerts a second, against Create alone."""

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import httpx2

from awoooi.client import NO_RETRIES, IncidentClient
from benchmarks.errors import BenchmarkError
from benchmarks.lab import Lab
from benchmarks.result import Goal, Result, Side, quantile
from benchmarks.servers import alert_intake
from benchmarks.turns import Effort

_PER_SECOND = 100.0
_TIMEOUT_SECONDS = 60.0
# Its latency is the sum of two servers' and of a second connection.
_LIMIT = 3.0


async def measure(lab: Lab, effort: Effort) -> Sequence[Result]:
    """Measure in turns: as many posts of one alert, and as many Creates with the same content, at a steady rate."""
    posts: list[list[float]] = []
    creates: list[list[float]] = []
    with alert_intake(lab.service.address, lab.directory / "intake.log") as intake:
        async with (
            httpx2.AsyncClient(
                base_url=f"http://{intake.address}", trust_env=False, timeout=_TIMEOUT_SECONDS
            ) as http,
            IncidentClient(lab.service.address, retry=NO_RETRIES, timeout=_TIMEOUT_SECONDS) as incidents,
        ):

            async def post() -> None:
                headers = {"Content-Type": "application/json"}
                response = await http.post("/alertmanager", content=_notification(), headers=headers)
                if response.status_code != httpx2.codes.OK:
                    raise BenchmarkError(f"a post was answered with {response.status_code}: {response.text}")

            async def create() -> None:
                await incidents.create(
                    title="The disk is full", severity="CRITICAL", fingerprint=secrets.token_hex(8)
                )

            for turn in range(effort.turns + 1):
                lab.step(f"P14: turn {turn} of {effort.turns}")
                recorded = {"intake": intake.process.pid, "incident": lab.service.process.pid}
                with lab.recorder.recording(recorded):
                    posted = await _steadily(post, effort.calls_one_caller)
                created = await _steadily(create, effort.calls_one_caller)
                # The first turn fills caches and pools.
                if turn > 0:
                    posts.append(posted)
                    creates.append(created)
    sides = [
        Side(name, "ms", [quantile(turn, share) * 1e3 for turn in turns])
        for name, turns, share in (
            ("POST of an alert, p50", posts, 0.5),
            ("Create, p50", creates, 0.5),
            ("POST of an alert, p99", posts, 0.99),
            ("Create, p99", creates, 0.99),
        )
    ]
    return [
        Result(
            number="P14",
            what=f"POST of an alert to its committed incident at {_PER_SECOND:.0f} alerts/s, p50",
            against="Create at the same rate, p50",
            goal=Goal.AT_MOST,
            limit=_LIMIT,
            sides=sides,
            ratio_of=lambda sides: sides[0] / sides[1],
            notes=("P14: an alert is due at its time whether those before it are answered or not.",),
        )
    ]


async def _steadily(call: Callable[[], Awaitable[None]], calls: int) -> list[float]:
    """Return the latency of each call, in seconds from when it was due."""
    began = time.perf_counter()

    async def timed(due: float) -> float:
        await asyncio.sleep(due - time.perf_counter())
        await call()
        return time.perf_counter() - due

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(timed(began + number / _PER_SECOND)) for number in range(calls)]
    return [task.result() for task in tasks]


def _notification() -> bytes:
    labels = {"alertname": "DiskFull", "severity": "critical", "instance": "db-1:9100"}
    alert = {
        "status": "firing",
        "labels": labels,
        "annotations": {"summary": "The disk is full"},
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": secrets.token_hex(8),
    }
    content = {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "flywheel",
        "groupLabels": {},
        "commonLabels": labels,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": [alert],
    }
    return json.dumps(content).encode()
