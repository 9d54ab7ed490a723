"""Good clients: operators who work, and what watches the services' health. What they see is what an attack does to them."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import httpx2
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from awoooi.client import NO_RETRIES, CallError, IncidentClient
from hostile.stack import Stack

_PAUSE_SECONDS = 0.05
_CHECK_EVERY_SECONDS = 0.5
_TIMEOUT_SECONDS = 10.0


@dataclass
class Seen:
    """What good clients saw in a time."""

    latencies: list[float] = field(default_factory=list)
    check_latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    not_serving: int = 0

    def add(self, other: "Seen") -> None:
        """Add what was seen in another time."""
        self.latencies += other.latencies
        self.check_latencies += other.check_latencies
        self.errors += other.errors
        self.not_serving += other.not_serving

    def quantile(self, share: float) -> float:
        """Return a quantile of the latencies, in seconds."""
        ordered = sorted(self.latencies) or [0.0]
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class GoodClients:
    """Calls all the time; `seen` is what came of it since the last `take`."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.seen = Seen()

    def take(self) -> Seen:
        """Return what was seen, and begin anew."""
        seen, self.seen = self.seen, Seen()
        return seen

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Return what is to run."""
        operators = [self._operate(number) for number in range(2)]
        watches = [self._watch(address) for address in (self._stack.incident, self._stack.approval)]
        checks = [self._check(address) for address in (self._stack.incident, self._stack.approval)]
        return [*operators, *watches, *checks, self._scrape()]

    async def _timed(self, call: Awaitable[Any]) -> Any:
        started = time.perf_counter()
        try:
            return await call
        except CallError as exc:
            self.seen.errors[type(exc).__name__] += 1
            return None
        finally:
            self.seen.latencies.append(time.perf_counter() - started)

    async def _operate(self, number: int) -> None:
        client = IncidentClient(
            self._stack.incident, actor=f"good-{number}", timeout=_TIMEOUT_SECONDS, retry=NO_RETRIES
        )
        async with client:
            while True:
                created = await self._timed(client.create(title="api answers slowly", severity="HIGH"))
                await asyncio.sleep(_PAUSE_SECONDS)
                if created is None:
                    continue
                incident_id = created.incident.incident_id
                await self._timed(client.get(incident_id))
                await asyncio.sleep(_PAUSE_SECONDS)
                await self._timed(client.resolve(incident_id, resolution_type="NO_ACTION"))
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _watch(self, address: str) -> None:
        async with grpc.aio.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            stub: Any = HealthStub(channel)
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    async for response in stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True):
                        if response.status != health_pb2.HealthCheckResponse.SERVING:
                            self.seen.not_serving += 1
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _check(self, address: str) -> None:
        async with grpc.aio.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            stub: Any = HealthStub(channel)
            while True:
                started = time.perf_counter()
                try:
                    response = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_SECONDS)
                    if response.status != health_pb2.HealthCheckResponse.SERVING:
                        self.seen.not_serving += 1
                except grpc.aio.AioRpcError as exc:
                    self.seen.errors[f"health {exc.code().name}"] += 1
                self.seen.check_latencies.append(time.perf_counter() - started)
                await asyncio.sleep(_CHECK_EVERY_SECONDS)

    async def _scrape(self) -> None:
        base_url = f"http://{self._stack.gateway}"
        async with httpx2.AsyncClient(base_url=base_url, timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
            while True:
                try:
                    response = await client.get("/-/ready")
                    if response.status_code != httpx2.codes.OK:
                        self.seen.errors[f"gateway {response.status_code}"] += 1
                except httpx2.HTTPError as exc:
                    self.seen.errors[f"gateway {type(exc).__name__}"] += 1
                await asyncio.sleep(_CHECK_EVERY_SECONDS)


@asynccontextmanager
async def good_clients(stack: Stack) -> AsyncIterator[GoodClients]:
    """Good clients that work until the block ends."""
    clients = GoodClients(stack)
    tasks = [asyncio.ensure_future(work) for work in clients.work()]
    try:
        yield clients
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
