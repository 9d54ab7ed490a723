"""The services under attack: `flywheel up` on a folder and ports of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from flywheel.postgres.embedded import EmbeddedPostgres
from hostile.errors import HostileError

_PREFIXES = ("INCIDENT_", "APPROVAL_", "GATEWAY_", "INTAKE_", "GRPC_", "FLYWHEEL_")
_STOP_SECONDS = 60.0
SERVICES = ("incident", "approval", "metrics_gateway")


@dataclass(frozen=True, slots=True)
class Stack:
    """The addresses of the services, and their processes by name."""

    incident: str
    approval: str
    gateway: str
    processes: Mapping[str, psutil.Process]
    data_dir: Path

    def memory(self) -> dict[str, int]:
        """Return the resident bytes of each service."""
        return {name: int(process.memory_info().rss) for name, process in self.processes.items()}

    def log_bytes(self) -> int:
        """Return the size of all logs."""
        return sum(path.stat().st_size for path in (self.data_dir / "log").iterdir())

    @property
    def database_url(self) -> str:
        """The incident service's database."""
        return EmbeddedPostgres(self.data_dir / "postgres").url("incident")


@contextmanager
def running_stack(data_dir: Path, variables: Mapping[str, str]) -> Iterator[Stack]:
    """Run the services with `variables` and no other settings, until the block ends. Raises HostileError."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)}
    anywhere = "127.0.0.1:0"
    arguments = [f"--data-dir={data_dir}"]
    arguments += [
        f"--{service}-listen={anywhere}" for service in ("incident", "approval", "gateway", "intake")
    ]
    up = subprocess.Popen(
        [sys.executable, "-m", "flywheel", "up", *arguments],
        env=inherited | dict(variables),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert up.stdout is not None
        word, *pairs = up.stdout.readline().split() or [""]
        if word != "ready":
            raise HostileError("flywheel up did not start")
        addresses = dict(pair.split("=") for pair in pairs)
        yield Stack(
            addresses["incident"],
            addresses["approval"],
            addresses["gateway"],
            _processes(psutil.Process(up.pid)),
            data_dir,
        )
    finally:
        up.terminate()
        try:
            up.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            up.kill()
            up.wait()
        if up.stdout is not None:
            up.stdout.close()


def _processes(up: psutil.Process) -> dict[str, psutil.Process]:
    found: dict[str, psutil.Process] = {}
    for process in up.children(recursive=True):
        command = process.cmdline()
        for name in SERVICES:
            if name in command and "serve" in command:
                found.setdefault(name, process)
    missing = set(SERVICES) - set(found)
    if missing:
        raise HostileError(f"no process of {', '.join(sorted(missing))}")
    return found
