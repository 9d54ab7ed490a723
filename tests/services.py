"""Services as processes of their own, ended by their pid.

`ServiceProcess` is started as an operator starts it. `RunningService`, for tests of what a service does once it serves, is
forked by a process that has loaded its modules (tests/preloaded.py).
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.preloaded import ForkedService

# For what must happen sooner or later and has no moment of its own; never met when all is well.
TIMEOUT_SECONDS = 60.0

_READ_BY_MAIN = ("INCIDENT_", "APPROVAL_", "GATEWAY_", "INTAKE_", "FAILPOINTS")
_SETTINGS = (*_READ_BY_MAIN, "GRPC_")


def without_settings() -> dict[str, str]:
    """This process's environment without any setting of a service."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}


class ServiceProcess:
    """`python -m <package> serve`, its log read as it comes. May be used from any event loop."""

    def __init__(self, package: str, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
        """Start the process with `variables` and no other settings of a service."""
        self._process = self._start(package, arguments, without_settings() | dict(variables))
        self.lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _start(
        self, package: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[str] | ForkedService:
        return subprocess.Popen(
            [sys.executable, "-m", package, *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for line in stderr:
                with self._changed:
                    self.lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def command_line(self) -> str:
        """What the process list shows of it."""
        return Path(f"/proc/{self.pid}/cmdline").read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's lines of this event so far."""
        parsed = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [event for event in parsed if event["event"] == name]

    def wait_for_event(self, name: str, **fields: object) -> dict[str, Any]:
        """Return the first line of this event with these fields, as soon as it is logged."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events(name) if fields.items() <= event.items()]

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended, timeout=TIMEOUT_SECONDS)
            assert found(), f"no event {name} {fields} in:\n" + "".join(self.lines)
            return found()[0]

    async def logged(self, name: str, **fields: object) -> dict[str, Any]:
        """`wait_for_event` without holding up the event loop."""
        return await asyncio.to_thread(self.wait_for_event, name, **fields)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code when the process has ended; negative: the signal that killed it."""
        code = self._process.wait(timeout=TIMEOUT_SECONDS)
        self._reader.join(timeout=TIMEOUT_SECONDS)
        return code

    async def ended(self) -> int:
        """`wait` without holding up the event loop."""
        return await asyncio.to_thread(self.wait)

    def kill(self) -> None:
        """End the process with SIGKILL."""
        self._process.kill()
        self.wait()


class RunningService(ServiceProcess):
    """A service that serves on `address` over the database at `database_url`."""

    def __init__(
        self, package: str, database_url: str, *, variables: Mapping[str, str] | None = None
    ) -> None:
        """Start the service on a free port and return when it listens."""
        prefix = package.upper()
        settings = {
            f"{prefix}_LISTEN": "127.0.0.1:0",
            f"{prefix}_DATABASE_URL": database_url,
        } | dict(variables or {})
        # Any other variable may be one that is read while modules are loaded.
        self._forks = all(name.startswith(_READ_BY_MAIN) for name in settings)
        super().__init__(package, ["serve", "--migrate"], settings)
        self.database_url = database_url
        try:
            self.address: str = self.wait_for_event("serving")["address"]
        except BaseException:
            self.kill()
            raise

    def _start(
        self, package: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[str] | ForkedService:
        if self._forks:
            return ForkedService(package, arguments, environment)
        return super()._start(package, arguments, environment)

    async def healthy(self) -> None:
        """Return when the health service reports SERVING."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            await serving(channel)


@contextmanager
def running_service(
    package: str, database_url: str, *, variables: Mapping[str, str] | None = None
) -> Iterator[RunningService]:
    """A service until the block ends; then it is killed."""
    service = RunningService(package, database_url, variables=variables)
    try:
        yield service
    finally:
        service.kill()


@asynccontextmanager
async def healthy_service(
    package: str, database_url: str, *, variables: Mapping[str, str] | None = None
) -> AsyncIterator[RunningService]:
    """`running_service`, started without holding up the event loop, and healthy."""
    service = await asyncio.to_thread(RunningService, package, database_url, variables=variables)
    try:
        await service.healthy()
        yield service
    finally:
        await asyncio.to_thread(service.kill)


async def serving(channel: grpc.aio.Channel, name: str = "") -> None:
    """Return when the health service behind `channel` says that `name` is SERVING."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        stub: Any = HealthStub(channel)  # the type stubs know no method of it
        stream = stub.Watch(health_pb2.HealthCheckRequest(service=name), wait_for_ready=True)
        async for response in stream:
            if response.status == health_pb2.HealthCheckResponse.SERVING:
                stream.cancel()
                return
    raise AssertionError("the health stream ended before SERVING")
