"""The embedded PostgreSQL from a clean start: settings, folders, failures."""

import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from flywheel.errors import FlywheelError
from flywheel.postgres.binaries import find_binaries
from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.system.processes import is_alive
from tests.flywheel.postgres.running_postgres import (
    execute,
    public_folder,
    started,
)


def test_the_first_start_creates_a_cluster_and_later_ones_keep_its_data(tmp_path: Path) -> None:
    with started(tmp_path / "pg", first_start=True, durable=True) as server:
        assert server.is_running()
        server.create_database("incident")
        execute(server, "CREATE TABLE kept AS SELECT 1", database="incident")
    assert not server.is_running()
    assert server.pid is None
    with started(tmp_path / "pg", durable=True) as server:
        assert execute(server, "SELECT count(*) FROM kept", database="incident") == 1


def test_commits_are_durable_by_default(tmp_path: Path) -> None:
    with started(tmp_path / "pg", first_start=True, durable=True) as server:
        assert execute(server, "SHOW fsync") == "on"
        assert execute(server, "SHOW synchronous_commit") == "on"
        assert execute(server, "SHOW data_checksums") == "on"
    with started(tmp_path / "pg", durable=False) as server:
        assert execute(server, "SHOW fsync") == "off"
        assert execute(server, "SHOW synchronous_commit") == "off"


def test_text_is_utf8_and_sorts_the_same_on_every_machine(tmp_path: Path) -> None:
    with started(tmp_path / "pg", first_start=True) as server:
        assert execute(server, "SHOW server_encoding") == "UTF8"
        assert execute(server, "SELECT 'B' < 'a' AND upper('ä') = 'Ä'")
        assert execute(server, "SHOW timezone") == "UTC"


def test_settings_of_the_caller_are_applied(tmp_path: Path) -> None:
    with started(tmp_path / "pg", settings={"max_connections": "17", "log_line_prefix": "a 'b' c"}) as server:
        assert execute(server, "SHOW max_connections") == "17"
        assert execute(server, "SHOW log_line_prefix") == "a 'b' c"


def test_it_listens_on_a_private_socket_and_on_no_port(tmp_path: Path) -> None:
    with started(tmp_path / "pg", first_start=True) as server:
        assert execute(server, "SHOW listen_addresses") == ""
        assert server.pid is not None
        assert not psutil.Process(server.pid).net_connections("inet")
        socket_folder = Path(execute(server, "SHOW unix_socket_directories"))
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("folder", "holds_the_socket"),
    [
        pytest.param("plain", True, id="a short path"),
        pytest.param("with spaces in it", True, id="spaces"),
        pytest.param("it's \"$HOME `id` \\%20+&?#=:@", True, id="special characters of shells and URLs"),
        pytest.param("über/数据", True, id="other alphabets"),
        pytest.param("a,b", False, id="a comma, which separates hosts"),
        pytest.param("deep/" * 40 + "end", False, id="too long for a socket"),
    ],
)
def test_any_folder_name_works(folder: str, holds_the_socket: bool) -> None:
    with public_folder() as short, started(short / folder / "pg", first_start=True) as server:
        server.create_database("one")
        assert execute(server, "SELECT current_setting('data_directory')") == str(short / folder / "pg")
        sockets = Path(execute(server, "SELECT current_setting('unix_socket_directories')", database="one"))
        assert (sockets == short / folder / "pg") == holds_the_socket
        # libpq reads such URLs too.
        psql = [
            find_binaries().psql,
            "--no-psqlrc",
            "-At",
            server.url("one"),
            "-c",
            "SELECT current_database()",
        ]
        assert subprocess.run(psql, capture_output=True, text=True, check=True).stdout == "one\n"


def test_a_folder_name_that_is_not_utf8_works() -> None:
    with public_folder() as short, started(short / os.fsdecode(b"d\xff") / "pg", first_start=True) as server:
        server.create_database("one")
        assert execute(server, "SELECT current_database()", database="one") == "one"


def test_a_relative_folder_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    server = EmbeddedPostgres(Path("pg"), durable=False)
    monkeypatch.chdir("/")
    try:
        server.start()
        assert (tmp_path / "pg" / "PG_VERSION").exists()
    finally:
        server.stop()


def test_pg_variables_of_the_user_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGPORT": "1",
        "PGHOST": "/nowhere",
        "PGDATA": "/nowhere",
        "PGOPTIONS": "-c x=y",
    }.items():
        monkeypatch.setenv(name, value)
    with started(tmp_path / "pg", first_start=True) as server:
        server.create_database("one")
        assert execute(server, "SELECT current_database()", database="one") == "one"


@pytest.mark.parametrize("name", ["incident", 'with "quotes"', "it's", "MixedCase", "a;b", "-c", "é"])
def test_create_database_is_idempotent_for_any_name(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    with started(tmp_path_factory.getbasetemp() / "databases" / "pg") as server:
        server.create_database(name)
        server.create_database(name)
        assert execute(server, "SELECT current_database()", database=name) == name


def test_two_servers_run_side_by_side(tmp_path: Path) -> None:
    with started(tmp_path / "one") as one, started(tmp_path / "two") as two:
        execute(one, "CREATE TABLE only_here ()")
        assert execute(two, "SELECT to_regclass('only_here')") is None
        two.stop()
        assert execute(one, "SELECT 1") == 1


def test_concurrent_starts_share_one_server(tmp_path: Path) -> None:
    servers = [EmbeddedPostgres(tmp_path / "pg", durable=False) for _ in range(6)]
    try:
        with ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(EmbeddedPostgres.start, servers))
        assert len({server.pid for server in servers}) == 1
    finally:
        servers[0].stop()
    assert not any(server.is_running() for server in servers)


def test_stop_ends_open_sessions_and_leaves_no_process(tmp_path: Path) -> None:
    with started(tmp_path / "pg") as server:
        assert server.pid is not None
        processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        server.stop()
        assert not any(map(is_alive, processes))
    server.stop()


def test_stop_without_a_start_has_no_effect(tmp_path: Path) -> None:
    EmbeddedPostgres(tmp_path / "pg").stop()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param({"PG_VERSION": "16\n"}, "was written by PostgreSQL 16", id="another version's data"),
        pytest.param(
            {"letter.txt": "dear"}, "is not empty and holds no PostgreSQL data", id="something else"
        ),
    ],
)
def test_a_folder_with_other_files_is_not_touched(
    tmp_path: Path, content: dict[str, str], message: str
) -> None:
    folder = tmp_path / "pg"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    with pytest.raises(FlywheelError, match=message):
        EmbeddedPostgres(folder).start()
    assert {path.name: path.read_text() for path in folder.iterdir()} == content


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "pg").mkdir()
    with started(tmp_path / "pg", first_start=True) as server:
        assert execute(server, "SELECT 1") == 1


def test_a_socket_folder_that_others_could_have_created_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with public_folder() as temporary:
        monkeypatch.setattr("tempfile.tempdir", str(temporary))
        server = EmbeddedPostgres(tmp_path / ("x" * 100) / "pg", durable=False)
        server.start()
        folder = Path(execute(server, "SHOW unix_socket_directories"))
        assert folder.parent == temporary
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        server.stop()
        assert not folder.exists()

        folder.mkdir()
        folder.chmod(0o777)
        with pytest.raises(FlywheelError, match="is not a folder of this user alone"):
            server.start()


def test_a_refused_setting_shows_the_log(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg", durable=False, settings={"max_connections": "many"})
    with pytest.raises(FlywheelError, match="did not start") as caught:
        server.start()
    assert 'invalid value for parameter "max_connections": "many"' in caught.value.details
    assert str(server.log_path) in caught.value.advice


def test_missing_binaries_give_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flywheel.postgres.binaries._PACKAGE", "no_such_package")
    with pytest.raises(FlywheelError, match="is not installed") as caught:
        find_binaries()
    assert "requirements.lock" in caught.value.advice


def test_a_copied_folder_is_a_different_cluster(tmp_path: Path) -> None:
    with started(tmp_path / "pg") as server:
        execute(server, "CREATE TABLE kept ()")
    shutil.copytree(tmp_path / "pg", tmp_path / "copy")
    with started(tmp_path / "pg") as server, started(tmp_path / "copy") as copy:
        assert server.pid != copy.pid
        assert execute(copy, "SELECT to_regclass('kept')::text") == "kept"
