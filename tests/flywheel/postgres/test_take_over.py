"""The start after a killed owner, a killed or hung server, or a killed initdb."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from flywheel.errors import FlywheelError
from flywheel.postgres.binaries import find_binaries, program_environment
from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.postgres.identity import choose_identity
from flywheel.postgres.processes import cluster_name, find_processes
from flywheel.system.processes import is_alive, wait_until
from tests.clusters import copy_cluster
from tests.flywheel.postgres.running_postgres import execute, owner_of, public_folder, started

_TIMEOUT_SECONDS = 180.0


def server_of(owner: subprocess.Popen[str]) -> psutil.Process:
    assert owner.stdout is not None
    return psutil.Process(int(owner.stdout.readline()))


def wait_for(condition: Callable[[], bool]) -> None:
    assert wait_until(condition, _TIMEOUT_SECONDS)


def test_the_server_of_a_killed_owner_is_taken_over(tmp_path: Path) -> None:
    with owner_of(copy_cluster(tmp_path / "pg")) as owner:
        server = server_of(owner)
        execute(EmbeddedPostgres(tmp_path / "pg"), "CREATE TABLE kept ()")
        owner.kill()
        owner.wait()
    with started(tmp_path / "pg") as next_owner:
        assert next_owner.pid == server.pid
        assert execute(next_owner, "SELECT to_regclass('kept')::text") == "kept"
    assert not is_alive(server)


def test_a_server_with_other_settings_is_restarted(tmp_path: Path) -> None:
    with started(tmp_path / "pg") as first, started(tmp_path / "pg", durable=True) as second:
        assert execute(second, "SHOW fsync") == "on"
        assert first.pid == second.pid


def test_the_server_of_a_moved_folder_is_restarted(tmp_path: Path) -> None:
    with started(tmp_path / "pg", durable=True) as server:
        execute(server, "CREATE TABLE kept ()")
        old = psutil.Process(server.pid)
        (tmp_path / "pg").rename(tmp_path / "moved")
        with started(tmp_path / "moved", durable=True) as moved:
            assert not is_alive(old)
            assert execute(moved, "SELECT to_regclass('kept')::text") == "kept"


# Files in the order in which initdb creates them.
@pytest.mark.parametrize("seen", ["", "PG_VERSION", "global/pg_control", "base/1/PG_VERSION", "base/5"])
def test_a_start_after_a_killed_initdb_works(tmp_path: Path, seen: str) -> None:
    with owner_of(tmp_path / "pg") as owner:
        wait_for((tmp_path / "pg.partial" / seen).exists)
        owner.kill()
        owner.wait()
        assert not (tmp_path / "pg").exists()
        with started(tmp_path / "pg", first_start=True) as server:
            assert execute(server, "SELECT 1") == 1
        assert not (tmp_path / "pg.partial").exists()


def test_a_killed_server_recovers_every_acknowledged_commit(tmp_path: Path) -> None:
    with started(tmp_path / "pg", durable=True) as server:
        execute(server, "CREATE TABLE kept ()")
        os.kill(psutil.Process(server.pid).pid, signal.SIGKILL)
        server.start()
        assert execute(server, "SELECT to_regclass('kept')::text") == "kept"
        assert "database system was not properly shut down" in server.log_path.read_text()


def test_the_previous_log_is_kept(tmp_path: Path) -> None:
    with started(tmp_path / "pg") as server:
        execute(server, "DO $$ BEGIN RAISE LOG 'of the first run'; END $$")
    with started(tmp_path / "pg") as server:
        assert "of the first run" not in server.log_path.read_text()
        assert "of the first run" in server.log_path.with_name("pg.log.1").read_text()


def test_an_orphaned_session_in_a_computation_is_ended(tmp_path: Path) -> None:
    with started(tmp_path / "pg") as server:
        endless = "DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$"
        client = subprocess.Popen(
            [find_binaries().psql, "--no-psqlrc", "--dbname", server.url("postgres"), "--command", endless],
            stderr=subprocess.DEVNULL,
        )
        try:
            busy = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'"
            wait_for(lambda: execute(server, busy) is not None)
            session = psutil.Process(execute(server, busy))
            psutil.Process(server.pid).kill()
            wait_for(lambda: not server.is_running())
            assert is_alive(session)
            server.start()
            assert not is_alive(session)
            assert execute(server, "SELECT 1") == 1
        finally:
            client.kill()
            client.wait()


def test_a_hung_server_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flywheel.postgres.server._PROBE_SECONDS", 0.3)
    with started(tmp_path / "pg") as server:
        hung = psutil.Process(server.pid)
        hung.suspend()
        server.start()
        assert not is_alive(hung)
        assert execute(server, "SELECT 1") == 1


def test_a_hung_predecessor_leaves_the_new_server_its_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flywheel.postgres.server._PROBE_SECONDS", 5.5)
    with started(tmp_path / "pg") as server:
        hung = psutil.Process(server.pid)
        hung.suspend()
        # Two health checks of the hung one take longer than this.
        EmbeddedPostgres(tmp_path / "pg", durable=False, start_seconds=10.0).start()
        assert not is_alive(hung)
        assert execute(server, "SELECT 1") == 1


def test_a_server_started_with_another_tmpdir_is_used_where_its_socket_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / ("x" * 100) / "pg"
    with public_folder() as one, public_folder() as other:
        monkeypatch.setattr("tempfile.tempdir", str(one))
        with started(data_dir, first_start=True) as server:
            pid = server.pid
            monkeypatch.setattr("tempfile.tempdir", str(other))
            later = EmbeddedPostgres(data_dir, durable=False)
            assert later.url("postgres") == server.url("postgres")
            later.start()
            later.create_database("one")
            assert execute(later, "SELECT current_database()", database="one") == "one"
            assert later.pid == pid
            later.stop()
            assert list(one.iterdir()) == list(other.iterdir()) == []


def test_a_process_of_another_user_with_the_cluster_name_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pg").mkdir()
    name = f"cluster_name={cluster_name(tmp_path / 'pg')}"
    stranger = psutil.Popen([sys.executable, "-c", "import signal; signal.pause()", name])
    try:
        wait_for(lambda: name in stranger.cmdline())
        assert find_processes(tmp_path / "pg").server == stranger
        monkeypatch.setattr(
            "flywheel.postgres.processes._user",
            lambda process: process.uids().effective + (process.pid == stranger.pid),
        )
        assert find_processes(tmp_path / "pg").server is None
        with started(tmp_path / "pg") as server:
            assert execute(server, "SELECT 1") == 1
        assert is_alive(stranger)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_hung_server_is_stopped(tmp_path: Path) -> None:
    with started(tmp_path / "pg") as server:
        hung = psutil.Process(server.pid)
        hung.suspend()
        server.stop()
        assert not is_alive(hung)


def test_a_zombie_is_not_taken_for_the_server(tmp_path: Path) -> None:
    # Without an init process to reap orphans, as in a container, a killed server stays a zombie.
    script = """
import ctypes, os, signal, sys
from pathlib import Path
import psutil
from flywheel.postgres.embedded import EmbeddedPostgres
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become ours, and are not reaped
server = EmbeddedPostgres(Path(sys.argv[1]), durable=False)
server.start()
first = psutil.Process(server.pid)
first.kill()
while first.status() != psutil.STATUS_ZOMBIE:
    pass
assert not server.is_running()
server.start()
assert first.status() == psutil.STATUS_ZOMBIE
assert server.is_running() and server.pid != first.pid
server.stop()
"""
    if not hasattr(ctypes.CDLL(None), "prctl"):
        pytest.skip("only Linux has subreapers")
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "pg")],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
    assert result.returncode == 0, result.stderr


def test_a_stale_pid_file_with_a_reused_pid_is_ignored(tmp_path: Path) -> None:
    with started(tmp_path / "pg") as server:
        pid_file = tmp_path / "pg" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        psutil.Process(server.pid).kill()
        wait_for(lambda: not server.is_running())
        pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        server.start()
        assert execute(server, "SELECT 1") == 1


def test_a_foreign_server_on_the_folder_is_not_touched(tmp_path: Path) -> None:
    with started(tmp_path / "pg") as server:
        server.stop()
        binaries = find_binaries()
        identity = choose_identity(binaries, tmp_path / "pg")
        command = [
            binaries.postgres,
            "-D",
            str(tmp_path / "pg"),
            "-c",
            "listen_addresses=",
            "-k",
            str(tmp_path),
        ]
        foreign = subprocess.Popen(
            identity.command(command),
            stderr=subprocess.DEVNULL,
            env=program_environment(),
            **identity.credentials,
        )
        try:
            pid_file = tmp_path / "pg" / "postmaster.pid"
            wait_for(lambda: pid_file.exists() and "ready" in pid_file.read_text())
            with pytest.raises(FlywheelError, match="that flywheel did not start") as caught:
                server.start()
            assert f"kill {foreign.pid}" in caught.value.advice
            assert foreign.poll() is None
        finally:
            foreign.terminate()
            foreign.wait()


def test_a_start_that_times_out_on_the_lock_is_an_error(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg", start_seconds=0.1)
    with server._locked(), pytest.raises(FlywheelError, match="another process is at work") as caught:
        EmbeddedPostgres(tmp_path / "pg", start_seconds=0.1).start()
    assert str(os.getpid()) in caught.value.details


def test_a_ctrl_c_in_the_terminal_does_not_reach_the_server(tmp_path: Path) -> None:
    with owner_of(copy_cluster(tmp_path / "pg")) as owner:
        server = server_of(owner)
        assert os.getsid(server.pid) != os.getsid(owner.pid)
        owner.send_signal(signal.SIGINT)
        owner.wait()
        assert is_alive(server)
    EmbeddedPostgres(tmp_path / "pg").stop()
