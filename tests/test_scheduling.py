"""A crash of a worker costs one test, and the run ends."""

import subprocess
import sys
from pathlib import Path

_CONFTEST = """
from tests.scheduling import CrashSafeScheduling

def pytest_xdist_make_scheduler(config, log):
    return CrashSafeScheduling(config, log)
"""
_CRASHES = """
import os, signal
from pathlib import Path

def test_before():
    pass

def test_crash():
    with Path("crashes").open("a") as crashes:
        crashes.write("x")
    os.kill(os.getpid(), signal.SIGKILL)

def test_after():
    pass
"""
_PASSES = "def test_first(): pass\ndef test_second(): pass\ndef test_third(): pass\n"


def test_a_test_that_crashes_its_worker_fails_alone_and_is_not_run_again(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    # With files before it and after it: those that are done, and those that are left to run.
    for name, text in (("a", _PASSES), ("b", _PASSES), ("c", _CRASHES), ("d", _PASSES), ("e", _PASSES)):
        (tmp_path / f"test_{name}.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:asyncio",
            "-n",
            "1",
            "--rootdir",
            ".",
            ".",
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "1 failed, 14 passed" in run.stdout, run.stdout + run.stderr
    assert (tmp_path / "crashes").read_text() == "x"
