"""The processes that are measured: started, waited for until they serve, ended."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.http2 import IN_THE_CLEAR, Access
from flywheel.system.log_files import tail

T = TypeVar("T")

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.02
NO_SETTINGS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server process, its address, the file it writes its standard error to, and what it is called with."""

    process: "subprocess.Popen[bytes]"
    address: str
    log_path: Path
    access: Access = IN_THE_CLEAR

    def resident_bytes(self) -> int:
        """Return the resident memory of the process."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def processor_seconds(self) -> float:
        """Return the processor time that the process has used."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)


@contextmanager
def incident_service(
    database_url: str,
    log_path: Path,
    *,
    module: str = "incident",
    settings: Mapping[str, str] = NO_SETTINGS,
    access: Access = IN_THE_CLEAR,
) -> Iterator[RunningServer]:
    """Run the incident service as users do, its effects' worker and its log included.

    `module` is what is run, `access` that of its callers.
    """
    environment = {"INCIDENT_LISTEN": "127.0.0.1:0", "INCIDENT_DATABASE_URL": database_url, **settings}
    command = [sys.executable, "-m", module, "serve"]
    with child(command, environment, log_path) as process:
        yield RunningServer(
            process, wait_for(process, partial(_healthy_address, log_path), log_path), log_path, access
        )


@contextmanager
def approval_service(database_url: str, log_path: Path, *, incident: str) -> Iterator[RunningServer]:
    """Run the approval service as users do, for the incident service at an address, which need not be there."""
    environment = {
        "APPROVAL_LISTEN": "127.0.0.1:0",
        "APPROVAL_DATABASE_URL": database_url,
        "APPROVAL_INCIDENT_TARGET": incident,
    }
    with child([sys.executable, "-m", "approval", "serve"], environment, log_path) as process:
        yield RunningServer(
            process,
            wait_for(process, partial(_healthy_address, log_path), log_path),
            log_path,
            # Nobody decides about a proposal of their own.
            Access(metadata={"awoooi-actor": "human:alice"}),
        )


@contextmanager
def alert_intake(incident: str, log_path: Path) -> Iterator[RunningServer]:
    """Run an alert intake of the incident service at an address."""
    environment = {
        "INTAKE_LISTEN": "127.0.0.1:0",
        "INTAKE_INCIDENT_TARGET": incident,
        # For alerts that end; none does.
        "INTAKE_APPROVAL_TARGET": "127.0.0.1:1",
    }
    with child([sys.executable, "-m", "alert_intake", "serve"], environment, log_path) as process:
        yield RunningServer(process, wait_for(process, partial(_address, log_path), log_path), log_path)


@contextmanager
def metrics_gateway(sources: Mapping[str, str], log_path: Path) -> Iterator[RunningServer]:
    """Run a gateway of services, by their names and addresses."""
    environment = {
        "GATEWAY_LISTEN": "127.0.0.1:0",
        "GATEWAY_SOURCES": ",".join(f"{name}={address}" for name, address in sources.items()),
    }
    with child([sys.executable, "-m", "metrics_gateway", "serve"], environment, log_path) as process:
        yield RunningServer(process, wait_for(process, partial(_address, log_path), log_path), log_path)


def _events(log_path: Path) -> Sequence[Mapping[str, Any]]:
    lines = log_path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def _address(log_path: Path) -> str:
    """Where a server listens, by its log; empty before it does."""
    return next((str(event["address"]) for event in _events(log_path) if event["event"] == "serving"), "")


def _healthy_address(log_path: Path) -> str:
    """Where a service listens, once it is healthy."""
    healthy = any(event["event"] == "health_changed" and event["serving"] for event in _events(log_path))
    return _address(log_path) if healthy else ""


@contextmanager
def echo_server(response: bytes, log_path: Path) -> Iterator[RunningServer]:
    """Run the bare server that answers every Resolve with the serialized `response`."""
    with child([sys.executable, "-m", "benchmarks.echo_server"], {}, log_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(response)
        process.stdin.close()
        # It prints its address when it listens; an end without one is reported by `wait_for`.
        address = process.stdout.readline().decode().strip()
        yield RunningServer(process, wait_for(process, lambda: address, log_path), log_path)


def free_address() -> str:
    """Return a loopback address that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        host, port = free.getsockname()
    return f"{host}:{port}"


@contextmanager
def child(
    command: Sequence[str], environment: Mapping[str, str], log_path: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program with pipes to its standard input and from its standard output, and end it afterwards."""
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # Without the settings of the user's own services.
            env={
                **{
                    name: value
                    for name, value in os.environ.items()
                    if not name.startswith(("INCIDENT_", "APPROVAL_", "INTAKE_", "GATEWAY_"))
                },
                **environment,
            },
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in filter(None, (process.stdin, process.stdout)):
            pipe.close()


def wait_for(process: "subprocess.Popen[bytes]", read: Callable[[], T], log_path: Path) -> T:
    """Return the first true value of `read`. Raises BenchmarkError when the process ends or takes too long."""
    deadline = time.monotonic() + _START_SECONDS
    while not (value := read()):
        ended = process.poll() is not None
        if ended or time.monotonic() >= deadline:
            command = str(process.args)
            happened = (
                f"ended with {process.returncode}" if ended else f"is not ready after {_START_SECONDS:.0f} s"
            )
            raise BenchmarkError(f"{command} {happened}; its log ends with:\n{tail(log_path)}")
        time.sleep(_POLL_SECONDS)
    return value
