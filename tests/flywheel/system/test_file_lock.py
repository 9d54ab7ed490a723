"""A lock that the kernel releases."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.system.file_lock import FileLock


def test_the_lock_is_exclusive(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    assert second.holder() == os.getpid()
    first.release()
    assert second.acquire()
    second.release()
    second.release()


def test_waiting_for_the_lock_times_out(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    with first.held(0.0), pytest.raises(TimeoutError, match=f"process {os.getpid()}"), second.held(0.05):
        pass
    with second.held(0.0):
        pass


def test_a_lock_that_was_never_taken_has_no_holder(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.holder() is None
    with pytest.raises(RuntimeError, match="not locked"):
        _ = lock.descriptor


def test_the_lock_of_a_killed_holder_is_released(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from flywheel.system.file_lock import FileLock\n"
    script += "FileLock(Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert not FileLock(tmp_path / "lock").acquire()
        holder.kill()
        holder.wait()
        assert FileLock(tmp_path / "lock").acquire()


def test_a_child_that_inherits_the_lock_keeps_it(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.acquire()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(lock.descriptor,)) as child:
        lock.release()
        assert not FileLock(tmp_path / "lock").acquire()
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
        assert FileLock(tmp_path / "lock").acquire(1.0)
