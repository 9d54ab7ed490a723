"""A service of the stack: start, stop, exit status, readiness."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flywheel.errors import FlywheelError
from flywheel.stack.addresses import Address
from flywheel.stack.readiness import http_is_ready
from flywheel.stack.service import STOP_SECONDS, Service, wait_until_ready
from servicekit.rpc.server_limits import ServerLimits
from tests.flywheel.stack.running_stack import eventually


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Any]:
    """A factory of stand-in services without a database."""
    made: list[Service] = []

    def make(behaviour: str = "", **options: Any) -> Service:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = Address("127.0.0.1", free.getsockname()[1])
        made.append(
            Service(
                "gateway",
                command=[sys.executable, str(Path(__file__).with_name("stand_in.py")), "gateway"],
                environment={**os.environ, "GATEWAY_LISTEN": str(address), "STAND_IN_GATEWAY": behaviour},
                address=address,
                log_path=tmp_path / "gateway.log",
                **{"probe": http_is_ready, **options},
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.stop(0.0)


def test_a_service_that_ignores_sigterm_is_killed(service: Any) -> None:
    ignoring = service("ignores_sigterm", stop_seconds=0.2)
    ignoring.start()
    process = psutil.Process(ignoring.pid)
    ignoring.stop()
    assert not process.is_running()
    assert ignoring.pid is None


def test_the_grace_of_a_service_is_longer_than_its_drain() -> None:
    assert ServerLimits().drain.total_seconds() + 5.0 <= STOP_SECONDS


def test_a_sigstopped_service_is_stopped(service: Any) -> None:
    stopped = service(stop_seconds=0.2)
    stopped.start()
    process = psutil.Process(stopped.pid)
    process.suspend()
    stopped.stop()
    assert not process.is_running()


def test_child_processes_end_with_their_service(service: Any) -> None:
    parent = service("parent")
    parent.start()
    (child,) = psutil.Process(parent.pid).children()
    parent.stop()
    child.wait(10)


def test_child_processes_of_a_killed_service_end_before_its_restart(service: Any) -> None:
    parent = service("parent")
    parent.start()
    (child,) = psutil.Process(parent.pid).children()
    os.kill(parent.pid, signal.SIGKILL)
    eventually(parent.exit_status)
    assert parent.exit_status() == "signal SIGKILL"
    parent.restart()
    child.wait(10)
    wait_until_ready([parent])


def test_a_failed_service_has_an_exit_reason_and_a_killed_one_has_none(service: Any) -> None:
    failed = service("crashing")
    assert failed.exit_reason() == ""
    failed.launch()
    eventually(failed.exit_status)
    assert failed.exit_reason() == "the stand-in crashes on request"
    killed = service()
    killed.start()
    os.kill(killed.pid, signal.SIGKILL)
    eventually(killed.exit_status)
    assert killed.exit_reason() == ""


def test_a_stopped_service_has_not_ended_by_itself(service: Any) -> None:
    one = service()
    assert one.exit_status() is None
    one.start()
    assert one.exit_status() is None
    one.stop()
    assert one.exit_status() is None


def test_waiting_for_readiness_times_out(service: Any) -> None:
    never = service(probe=lambda _address: False)
    never.launch()
    with pytest.raises(FlywheelError, match=r"not ready after 0 s: gateway"):
        wait_until_ready([never], timeout_seconds=0.1)
