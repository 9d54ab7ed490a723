"""A signal to `flywheel import` ends it, and nothing that it started stays."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.system.processes import is_alive
from tests.flywheel.stack.running_stack import TIMEOUT_SECONDS, eventually

_WAITING = (
    "import os, signal, pathlib\npathlib.Path(os.environ['PIDS'], str(os.getpid())).touch()\nsignal.pause()\n"
)


@pytest.fixture
def waiting(tmp_path: Path) -> dict[str, str]:
    """The environment in which both services' imports note their pid and wait for ever."""
    for name in ("incident", "approval"):
        package = tmp_path / "stand_ins" / name
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(_WAITING)
    (tmp_path / "pids").mkdir()
    path = [str(tmp_path / "stand_ins"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path), "PIDS": str(tmp_path / "pids")}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """The database of a stack that does not run."""
    server = EmbeddedPostgres(tmp_path / "data" / "postgres")
    server.start()
    server.stop()
    yield server
    server.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_database_and_both_imports(
    tmp_path: Path, waiting: dict[str, str], database: EmbeddedPostgres, number: signal.Signals
) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "flywheel", "import", str(lines), "--data-dir", str(tmp_path / "data")],
        env={**os.environ, **waiting},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        pids = tmp_path / "pids"
        eventually(lambda: len(list(pids.iterdir())) == len(("incident", "approval")))
        imports = [psutil.Process(int(each.name)) for each in pids.iterdir()]
        process.send_signal(number)
        process.send_signal(number)  # an impatient user does not interrupt the clean-up
        _, err = process.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, err) == (128 + number, "")
    assert not any(map(is_alive, imports))
    assert not database.is_running()
