"""The user that PostgreSQL runs as: an ordinary one, root in a user namespace, an unprivileged account."""

import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flywheel.errors import FlywheelError
from flywheel.postgres.embedded import EmbeddedPostgres
from tests.flywheel.postgres.running_postgres import (
    copy_of_binaries,
    execute,
    owner_of,
    public_folder,
    started,
    without_user_namespaces,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_permissions_of_parent_folders_are_unchanged(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with started(home / "checkout" / "pg", first_start=True) as server:
        assert execute(server, "SELECT 1") == 1
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert (home / "checkout" / "pg").stat().st_uid == os.geteuid()


@as_root
def test_an_ordinary_user_runs_it_directly(tmp_path: Path) -> None:
    # A process with another uid that can still read this virtual environment of root.
    with owner_of(tmp_path / "pg", "unshare", "--user", "--map-user=1", "--map-group=1") as owner:
        assert owner.stdout is not None
        assert psutil.pid_exists(int(owner.stdout.readline()))
    EmbeddedPostgres(tmp_path / "pg").stop()


@as_root
def test_the_folder_of_another_user_is_refused_with_its_owner(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from flywheel.postgres.binaries import find_binaries
from flywheel.postgres.identity import choose_identity
choose_identity(find_binaries(), Path(sys.argv[1]))
"""
    (tmp_path / "pg").mkdir()
    os.chown(tmp_path / "pg", pwd.getpwnam("daemon").pw_uid, -1)
    ordinary = ["unshare", "--user", "--map-user=1", "--map-group=1", sys.executable, "-c", script]
    result = subprocess.run([*ordinary, str(tmp_path / "pg")], capture_output=True, text=True, check=False)
    # In the namespace every other user is nobody.
    assert f"FlywheelError: {tmp_path / 'pg'} belongs to the user nobody" in result.stderr
    assert "choose another place with --data-dir" in result.stderr


@as_root
def test_root_without_user_namespaces_becomes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with public_folder() as folder:
        monkeypatch.setenv("PATH", without_user_namespaces(folder))
        with started(folder / "data" / "pg", binaries=copy_of_binaries(folder), first_start=True) as server:
            server.create_database("one")
            assert execute(server, "SELECT current_database()", database="one") == "one"
            assert psutil.Process(server.pid).username() == "nobody"
            assert (folder / "data" / "pg").owner() == "nobody"
        # The cluster keeps its owner, also with namespaces enabled again.
        monkeypatch.undo()
        with started(
            folder / "data" / "pg", binaries=copy_of_binaries(folder / "again"), first_start=True
        ) as server:
            assert psutil.Process(server.pid).username() == "nobody"


@as_root
def test_root_in_a_private_home_becomes_its_owner() -> None:
    # In a user namespace root has no privileges and cannot enter.
    with public_folder() as folder:
        home = folder / "home"
        home.mkdir(mode=0o700)
        os.chown(home, pwd.getpwnam("daemon").pw_uid, pwd.getpwnam("daemon").pw_gid)
        with started(home / "data" / "pg", binaries=copy_of_binaries(folder), first_start=True) as server:
            assert psutil.Process(server.pid).username() == "daemon"
            assert execute(server, "SELECT 1") == 1


@as_root
def test_root_gets_advice_when_no_user_can_reach_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with public_folder() as folder:
        monkeypatch.setenv("PATH", without_user_namespaces(folder))
        (tmp_path / "private").mkdir(mode=0o700)
        server = EmbeddedPostgres(tmp_path / "private" / "pg", binaries=copy_of_binaries(folder))
        with pytest.raises(FlywheelError) as caught:
            server.start()
    assert "refuses to run as root" in caught.value.message
    assert "user namespace: unshare: unshare failed: Operation not permitted" in caught.value.details
    assert "nobody: it may not enter" in caught.value.details
    assert "INCIDENT_DATABASE_URL" in caught.value.advice
    assert list((tmp_path / "private").iterdir()) == []
