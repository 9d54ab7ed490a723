"""The stack as an object: started, used, stopped, in the right environment and with clear refusals."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from flywheel.errors import FlywheelError
from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.stack.addresses import Address
from flywheel.stack.orphans import setting_of
from flywheel.stack.readiness import grpc_is_serving, http_is_ready
from flywheel.stack.service import Service, wait_until_ready
from flywheel.stack.stack import Stack
from tests.databases import empty_database
from tests.flywheel.stack_cases import eventually, services_of, stand_ins, starts

ANY = {"incident_listen": "127.0.0.1:0", "approval_listen": "127.0.0.1:0", "gateway_listen": "127.0.0.1:0"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return stand_ins(tmp_path)


def stack_on(data_dir: Path, environment: dict[str, str], **options: Any) -> Stack:
    return Stack(data_dir, **{**ANY, "environment": environment, "durable": False, **options})


def is_stopped(data_dir: Path) -> bool:
    return not services_of(data_dir) and not EmbeddedPostgres(data_dir / "postgres").is_running()


def test_all_are_ready_when_it_has_started_and_gone_when_it_has_stopped(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with stack_on(tmp_path / "data", environment) as stack:
        assert grpc_is_serving(stack.incident.address)
        assert grpc_is_serving(stack.approval.address)
        assert http_is_ready(stack.gateway.address)
        assert stack.database is not None
        assert starts(stack.database.url("incident")) == starts(stack.database.url("approval")) == 1
        assert set(services_of(tmp_path / "data")) == {"incident", "approval", "metrics_gateway"}
    assert is_stopped(tmp_path / "data")


def test_the_services_are_told_where_the_others_are(tmp_path: Path, environment: dict[str, str]) -> None:
    with stack_on(tmp_path / "data", environment | {"INCIDENT_STUCK_AFTER": "5s"}) as stack:
        seen = services_of(tmp_path / "data")
        incident, approval, gateway = (
            seen[name].environ() for name in ("incident", "approval", "metrics_gateway")
        )
        assert incident["INCIDENT_LISTEN"] == str(stack.incident.address)
        assert incident["INCIDENT_STUCK_AFTER"] == "5s"
        assert approval["APPROVAL_LISTEN"] == str(stack.approval.address)
        assert approval["APPROVAL_INCIDENT_TARGET"] == str(stack.incident.address)
        assert gateway["GATEWAY_LISTEN"] == str(stack.gateway.address)
        assert (
            gateway["GATEWAY_SOURCES"]
            == f"incident={stack.incident.address},approval={stack.approval.address}"
        )
        assert seen["incident"].cmdline()[-2:] == ["serve", "--migrate"]
        assert seen["approval"].cmdline()[-2:] == ["serve", "--migrate"]
        assert seen["metrics_gateway"].cmdline()[-1:] == ["serve"]


def test_one_that_listens_everywhere_is_dialled_on_loopback(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with stack_on(tmp_path / "data", environment, incident_listen="0.0.0.0:0") as stack:
        seen = services_of(tmp_path / "data")["approval"].environ()
        assert seen["APPROVAL_INCIDENT_TARGET"] == f"127.0.0.1:{stack.incident.address.port}"


def test_one_service_can_be_stopped_and_started_on_its_address(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with stack_on(tmp_path / "data", environment) as stack:
        address, pid = stack.incident.address, stack.incident.pid
        stack.incident.stop()
        assert not grpc_is_serving(address)
        assert grpc_is_serving(stack.approval.address)
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            assert other.getsockname()[1] != address.port
        stack.incident.start()
        assert stack.incident.pid != pid
        assert stack.incident.address == address
        assert grpc_is_serving(address)
        assert stack.database is not None
        assert starts(stack.database.url("incident")) == 2


def test_data_and_previous_logs_survive_a_restart(tmp_path: Path, environment: dict[str, str]) -> None:
    for run in (1, 2):
        with stack_on(tmp_path / "data", environment, durable=True) as stack:
            assert stack.database is not None
            assert starts(stack.database.url("incident")) == run
    logs = {path.name for path in (tmp_path / "data" / "log").iterdir()}
    names = ("incident.log", "approval.log", "gateway.log", "postgres.log")
    assert logs == {f"{name}{suffix}" for name in names for suffix in ("", ".1")}
    assert "serving" in (tmp_path / "data" / "log" / "incident.log.1").read_text()


async def test_a_database_of_the_users_own_is_used_in_place_of_the_embedded_one(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    async with empty_database() as incident, empty_database() as approval:
        stack = stack_on(
            tmp_path / "data", environment, incident_database_url=incident, approval_database_url=approval
        )
        with stack:
            assert stack.database is None
            assert services_of(tmp_path / "data")["incident"].environ()["INCIDENT_DATABASE_URL"] == incident
        assert not (tmp_path / "data" / "postgres").exists()


def test_a_second_stack_on_the_same_folder_is_refused(tmp_path: Path, environment: dict[str, str]) -> None:
    with stack_on(tmp_path / "data", environment) as stack:
        with pytest.raises(FlywheelError, match=rf"already \(process {os.getpid()}\)") as caught:
            stack_on(tmp_path / "data", environment).start()
        assert "--data-dir" in caught.value.advice
        assert grpc_is_serving(stack.incident.address)


def test_two_stacks_run_side_by_side(tmp_path: Path, environment: dict[str, str]) -> None:
    with stack_on(tmp_path / "one", environment) as one, stack_on(tmp_path / "two", environment) as two:
        one.stop()
        assert grpc_is_serving(two.incident.address)


@pytest.mark.parametrize(
    ("option", "variable"),
    [
        pytest.param("incident_listen", "INCIDENT_LISTEN", id="incident"),
        pytest.param("approval_listen", "APPROVAL_LISTEN", id="approval"),
        pytest.param("gateway_listen", "GATEWAY_LISTEN", id="gateway"),
    ],
)
def test_a_taken_address_names_the_variable_to_set(tmp_path: Path, option: str, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(FlywheelError, match=f"the address {address} is in use") as caught:
            stack_on(tmp_path / "data", {}, **{option: address}).start()
    assert variable in caught.value.advice
    assert is_stopped(tmp_path / "data")


def test_a_service_that_ends_while_starting_shows_its_log_and_nothing_stays(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    stack = stack_on(tmp_path / "data", environment | {"STAND_IN_APPROVAL": "crashing"})
    with pytest.raises(
        FlywheelError, match=r"approval service ended while starting \(exit status 3\)"
    ) as caught:
        stack.start()
    assert "the stand-in was told to crash" in caught.value.details
    assert "approval.log" in caught.value.advice
    assert is_stopped(tmp_path / "data")
    with stack_on(tmp_path / "data", environment):
        pass


def test_what_is_being_done_is_told(tmp_path: Path, environment: dict[str, str]) -> None:
    steps: list[str] = []
    with stack_on(tmp_path / "data", environment, on_step=steps.append):
        assert steps == ["making the database", "starting the services"]
        steps.clear()
    assert steps == ["stopping gateway", "stopping approval", "stopping incident", "stopping PostgreSQL"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Any]:
    """A way to make a stand-in service without a database."""
    made: list[Service] = []

    def make(behaviour: str = "", **options: Any) -> Service:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = Address("127.0.0.1", free.getsockname()[1])
        made.append(
            Service(
                "gateway",
                command=[sys.executable, str(Path(__file__).parents[1] / "stand_in.py"), "gateway"],
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


def test_a_service_that_hears_no_sigterm_is_ended_by_force(service: Any) -> None:
    deaf = service("deaf", stop_seconds=0.2)
    deaf.start()
    process = psutil.Process(deaf.pid)
    deaf.stop()
    assert not process.is_running()
    assert deaf.pid is None


def test_a_halted_service_is_stopped(service: Any) -> None:
    halted = service()
    halted.start()
    process = psutil.Process(halted.pid)
    process.suspend()
    halted.stop()
    assert not process.is_running()


def test_what_a_service_started_ends_with_it(service: Any) -> None:
    parent = service("parent")
    parent.start()
    (child,) = psutil.Process(parent.pid).children()
    parent.stop()
    child.wait(10)


def test_what_a_killed_service_started_ends_before_the_next(service: Any) -> None:
    parent = service("parent")
    parent.start()
    (child,) = psutil.Process(parent.pid).children()
    os.kill(parent.pid, signal.SIGKILL)
    eventually(parent.how_it_ended)
    assert parent.how_it_ended() == "signal SIGKILL"
    parent.restart()
    child.wait(10)
    wait_until_ready([parent])


def test_a_service_that_failed_says_why_and_a_killed_one_does_not(service: Any) -> None:
    failed = service("crashing")
    assert failed.why_it_ended() == ""
    failed.launch()
    eventually(failed.how_it_ended)
    assert failed.why_it_ended() == "the stand-in was told to crash"
    killed = service()
    killed.start()
    os.kill(killed.pid, signal.SIGKILL)
    eventually(killed.how_it_ended)
    assert killed.why_it_ended() == ""


def test_a_setting_of_a_running_stack_is_found_by_its_folder(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    data_dir = tmp_path / "data"
    assert setting_of(data_dir, "APPROVAL_LISTEN") is None
    with stack_on(data_dir, environment) as stack:
        assert setting_of(data_dir, "APPROVAL_LISTEN") == str(stack.approval.address)
        assert setting_of(tmp_path, "APPROVAL_LISTEN") is None
    assert setting_of(data_dir, "APPROVAL_LISTEN") is None


def test_a_stopped_service_has_not_ended_by_itself(service: Any) -> None:
    one = service()
    assert one.how_it_ended() is None
    one.start()
    assert one.how_it_ended() is None
    one.stop()
    assert one.how_it_ended() is None


def test_a_service_that_does_not_get_ready_is_not_waited_for_without_end(service: Any) -> None:
    never = service(probe=lambda _address: False)
    never.launch()
    with pytest.raises(FlywheelError, match=r"not ready after 0 s: gateway"):
        wait_until_ready([never], timeout_seconds=0.1)


def test_a_server_that_is_not_serving_yet_is_not_ready(tmp_path: Path, environment: dict[str, str]) -> None:
    data_dir = tmp_path / "data"
    stack = stack_on(data_dir, environment | {"STAND_IN_INCIDENT": "dumb"})
    with ThreadPoolExecutor(1) as threads:
        starting = threads.submit(stack.start)
        log = data_dir / "log" / "incident.log"
        eventually(lambda: log.exists() and "serving" in log.read_text())
        assert not grpc_is_serving(stack.incident.address)
        services_of(data_dir)["incident"].kill()
        with pytest.raises(FlywheelError, match="incident service ended"):
            starting.result()
    assert is_stopped(data_dir)
