"""The stack as an object: start, environment, stop, errors."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flywheel.errors import FlywheelError
from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.stack.orphans import setting_of
from flywheel.stack.readiness import grpc_is_serving, http_is_ready
from flywheel.stack.stack import Stack
from flywheel.system.log_files import MAX_BYTES
from tests.clusters import copy_cluster
from tests.databases import empty_database
from tests.flywheel.stack.running_stack import eventually, services_of, stand_ins, starts

ANY = {
    "incident_listen": "127.0.0.1:0",
    "approval_listen": "127.0.0.1:0",
    "gateway_listen": "127.0.0.1:0",
    "intake_listen": "127.0.0.1:0",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return stand_ins(tmp_path)


def stack_on(
    data_dir: Path, environment: dict[str, str], *, first_start: bool = False, **options: Any
) -> Stack:
    if not first_start:
        copy_cluster(data_dir / "postgres")
    return Stack(data_dir, **{**ANY, "environment": environment, "durable": False, **options})


def is_stopped(data_dir: Path) -> bool:
    return not services_of(data_dir) and not EmbeddedPostgres(data_dir / "postgres").is_running()


def test_all_services_are_ready_after_start_and_gone_after_stop(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with stack_on(tmp_path / "data", environment, first_start=True) as stack:
        assert grpc_is_serving(stack.incident.address)
        assert grpc_is_serving(stack.approval.address)
        assert http_is_ready(stack.gateway.address)
        assert http_is_ready(stack.intake.address)
        assert stack.database is not None
        assert starts(stack.database.url("incident")) == starts(stack.database.url("approval")) == 1
        assert set(services_of(tmp_path / "data")) == {
            "incident",
            "approval",
            "metrics_gateway",
            "alert_intake",
        }
    assert is_stopped(tmp_path / "data")


def test_the_services_get_the_addresses_of_the_others(tmp_path: Path, environment: dict[str, str]) -> None:
    with stack_on(tmp_path / "data", environment | {"INCIDENT_STUCK_AFTER": "5s"}) as stack:
        seen = services_of(tmp_path / "data")
        incident, approval, gateway, intake = (
            seen[name].environ() for name in ("incident", "approval", "metrics_gateway", "alert_intake")
        )
        assert incident["INCIDENT_LISTEN"] == str(stack.incident.address)
        assert incident["INCIDENT_STUCK_AFTER"] == "5s"
        # Each rotates its own log.
        logs = tmp_path / "data" / "log"
        assert incident["INCIDENT_LOG_FILE"] == str(logs / "incident.log")
        assert approval["APPROVAL_LOG_FILE"] == str(logs / "approval.log")
        assert gateway["GATEWAY_LOG_FILE"] == str(logs / "gateway.log")
        assert approval["APPROVAL_LISTEN"] == str(stack.approval.address)
        assert approval["APPROVAL_INCIDENT_TARGET"] == str(stack.incident.address)
        assert gateway["GATEWAY_LISTEN"] == str(stack.gateway.address)
        assert (
            gateway["GATEWAY_SOURCES"]
            == f"incident={stack.incident.address},approval={stack.approval.address}"
        )
        assert intake["INTAKE_LISTEN"] == str(stack.intake.address)
        assert intake["INTAKE_LOG_FILE"] == str(logs / "intake.log")
        assert intake["INTAKE_INCIDENT_TARGET"] == str(stack.incident.address)
        assert intake["INTAKE_APPROVAL_TARGET"] == str(stack.approval.address)
        assert seen["incident"].cmdline()[-2:] == ["serve", "--migrate"]
        assert seen["approval"].cmdline()[-2:] == ["serve", "--migrate"]
        assert seen["metrics_gateway"].cmdline()[-1:] == ["serve"]
        assert seen["alert_intake"].cmdline()[-1:] == ["serve"]


def test_reserved_addresses_are_the_services_own_over_inherited_ones(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inherited = ("INCIDENT_LISTEN", "INCIDENT_STUCK_AFTER")
    for variable in inherited:
        monkeypatch.setenv(variable, "inherited")
    removed: dict[str, Any] = {**environment, **dict.fromkeys(inherited)}
    stack = stack_on(tmp_path / "data", removed)
    reserved = stack.reserve()
    with stack:
        services = [stack.incident, stack.approval, stack.gateway, stack.intake]
        assert reserved == {service.name: service.address for service in services}
        seen = services_of(tmp_path / "data")["incident"].environ()
        assert seen["INCIDENT_LISTEN"] == str(stack.incident.address)
        assert "INCIDENT_STUCK_AFTER" not in seen
    assert is_stopped(tmp_path / "data")


def test_a_server_on_all_interfaces_is_connected_to_on_loopback(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with stack_on(tmp_path / "data", environment, incident_listen="0.0.0.0:0") as stack:
        seen = services_of(tmp_path / "data")["approval"].environ()
        assert seen["APPROVAL_INCIDENT_TARGET"] == f"127.0.0.1:{stack.incident.address.port}"


def test_a_service_restarts_on_its_address(tmp_path: Path, environment: dict[str, str]) -> None:
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
        with stack_on(tmp_path / "data", environment, first_start=True, durable=True) as stack:
            assert stack.database is not None
            assert starts(stack.database.url("incident")) == run
    logs = {path.name for path in (tmp_path / "data" / "log").iterdir()}
    names = ("incident.log", "approval.log", "gateway.log", "intake.log", "postgres.log")
    assert logs == {f"{name}{suffix}" for name in names for suffix in ("", ".1")}
    assert "serving" in (tmp_path / "data" / "log" / "incident.log.1").read_text()


async def test_a_database_url_replaces_the_embedded_database(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    async with empty_database() as incident, empty_database() as approval:
        stack = stack_on(
            tmp_path / "data",
            environment,
            first_start=True,
            incident_database_url=incident,
            approval_database_url=approval,
        )
        with stack:
            assert stack.database is None
            assert services_of(tmp_path / "data")["incident"].environ()["INCIDENT_DATABASE_URL"] == incident
        assert not (tmp_path / "data" / "postgres").exists()


async def test_pg_variables_reach_only_the_service_with_a_database_of_the_user(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "primary")
    async with empty_database() as incident:
        with stack_on(tmp_path / "data", environment, incident_database_url=incident):
            seen = services_of(tmp_path / "data")
            assert "PGTARGETSESSIONATTRS" in seen["incident"].environ()
            assert "PGTARGETSESSIONATTRS" not in seen["approval"].environ()


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
        pytest.param("intake_listen", "INTAKE_LISTEN", id="intake"),
    ],
)
def test_an_address_in_use_names_the_variable(tmp_path: Path, option: str, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(FlywheelError, match=f"the address {address} is in use") as caught:
            stack_on(tmp_path / "data", {}, first_start=True, **{option: address}).start()
    assert variable in caught.value.advice
    assert is_stopped(tmp_path / "data")


def test_a_service_that_ends_while_starting_shows_its_log_and_everything_is_stopped(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    stack = stack_on(tmp_path / "data", environment | {"STAND_IN_APPROVAL": "crashing"})
    with pytest.raises(
        FlywheelError, match=r"approval service ended while starting \(exit status 3\)"
    ) as caught:
        stack.start()
    assert "the stand-in crashes on request" in caught.value.details
    assert "approval.log" in caught.value.advice
    assert is_stopped(tmp_path / "data")
    with stack_on(tmp_path / "data", environment):
        pass


def test_each_step_is_reported(tmp_path: Path, environment: dict[str, str]) -> None:
    steps: list[str] = []
    with stack_on(tmp_path / "data", environment, first_start=True, on_step=steps.append):
        assert steps == ["creating the database", "starting the services"]
        steps.clear()
    assert steps == [
        "stopping gateway",
        "stopping intake",
        "stopping approval",
        "stopping incident",
        "stopping PostgreSQL",
    ]


def test_a_setting_of_a_running_stack_is_found_by_folder(tmp_path: Path, environment: dict[str, str]) -> None:
    data_dir = tmp_path / "data"
    assert setting_of(data_dir, "APPROVAL_LISTEN") is None
    with stack_on(data_dir, environment) as stack:
        assert setting_of(data_dir, "APPROVAL_LISTEN") == str(stack.approval.address)
        assert setting_of(tmp_path, "APPROVAL_LISTEN") is None
    assert setting_of(data_dir, "APPROVAL_LISTEN") is None


def test_a_server_that_is_not_serving_yet_is_not_ready(tmp_path: Path, environment: dict[str, str]) -> None:
    data_dir = tmp_path / "data"
    stack = stack_on(data_dir, environment | {"STAND_IN_INCIDENT": "never_ready"})
    with ThreadPoolExecutor(1) as threads:
        starting = threads.submit(stack.start)
        log = data_dir / "log" / "incident.log"
        eventually(lambda: log.exists() and "serving" in log.read_text())
        assert not grpc_is_serving(stack.incident.address)
        services_of(data_dir)["incident"].kill()
        with pytest.raises(FlywheelError, match="incident service ended"):
            starting.result()
    assert is_stopped(data_dir)


class _Watched:
    """A database that runs until it was looked at twice."""

    def __init__(self, log_path: Path) -> None:
        self.log_path = log_path
        self._looks = 0

    def is_running(self) -> bool:
        self._looks += 1
        if self._looks > 2:
            raise KeyboardInterrupt
        return True


def test_the_log_of_postgres_is_shortened_while_it_runs(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    log.touch()
    os.truncate(log, MAX_BYTES)  # sparse
    stack = Stack(tmp_path / "data")
    stack.database = _Watched(log)  # type: ignore[assignment]  # all that is used of it
    with pytest.raises(KeyboardInterrupt):
        stack.watch(print)
    assert log.stat().st_size == 0
    assert (tmp_path / "postgres.log.1").stat().st_size == MAX_BYTES
