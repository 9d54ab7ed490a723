"""The databases of a stack that runs, for commands beside it."""

from pathlib import Path

import psutil
import pytest

from flywheel.errors import FlywheelError
from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.stack.databases import ServiceDatabases, service_databases
from flywheel.system.file_lock import FileLock
from flywheel.system.steps import Steps
from tests.flywheel.postgres.running_postgres import started


@pytest.fixture(autouse=True)
def _no_databases_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ("INCIDENT", "APPROVAL"):
        monkeypatch.delenv(f"{service}_DATABASE_URL", raising=False)


def test_the_server_of_a_running_stack_with_other_settings_is_used_as_it_is(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock").held(0.0), started(tmp_path / "postgres", durable=False) as server:
        pid = server.pid
        with service_databases(tmp_path, Steps()) as databases:
            assert databases.environment["INCIDENT_DATABASE_URL"] == server.url("incident")
            assert server.pid == pid
        assert server.pid == pid


def test_a_hung_server_of_a_running_stack_is_an_error_and_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flywheel.postgres.server._PROBE_SECONDS", 0.3)
    with FileLock(tmp_path / "lock").held(0.0), started(tmp_path / "postgres") as server:
        process = psutil.Process(server.pid)
        process.suspend()
        with (
            pytest.raises(FlywheelError, match="does not respond"),
            service_databases(tmp_path, Steps()),
        ):
            pass
        process.resume()
        assert EmbeddedPostgres(tmp_path / "postgres").pid == process.pid


def test_pg_variables_reach_only_the_import_into_a_database_of_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    databases = ServiceDatabases({"APPROVAL_DATABASE_URL": "postgresql:///approval"}, ("approval",))
    assert "PGSSLMODE" in databases.of("incident")
    assert "PGSSLMODE" not in databases.of("approval")
    assert databases.of("approval")["APPROVAL_DATABASE_URL"] == "postgresql:///approval"
