"""P11: how long `flywheel up` takes on a new folder until everything is ready, against PostgreSQL alone."""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.lab import Lab
from benchmarks.result import Goal, Result, Side
from benchmarks.servers import child
from benchmarks.turns import FEW_TURNS, Effort
from flywheel.postgres.binaries import find_binaries
from flywheel.postgres.identity import Identity, choose_identity
from flywheel.postgres.socket import ensure_private, socket_directory
from flywheel.system.log_files import tail

_SECONDS = 120.0
_ANY_PORTS = [f"--{name}-listen=127.0.0.1:0" for name in ("incident", "approval", "gateway", "intake")]
# As `flywheel up` makes its cluster.
_INITDB = (
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)


async def measure(lab: Lab, effort: Effort) -> Sequence[Result]:
    """Measure in turns, each on a new folder."""
    ups: list[float] = []
    postgres: list[float] = []
    turns = min(effort.turns, FEW_TURNS)
    # The first turn fills the caches of files; the short form measures nothing.
    for turn in range(1 if effort.offline else 0, turns + 1):
        lab.step(f"P11: turn {turn} of {turns}")
        taken = _postgres_alone(lab.directory / "start-postgres"), _up(lab.directory / "start-up")
        if turn > 0:
            postgres.append(taken[0])
            ups.append(taken[1])
    return [
        Result(
            number="P11",
            what="`flywheel up` on a new folder until all four services are ready",
            against="`initdb` + `pg_ctl start` alone, medians",
            goal=Goal.AT_MOST,
            limit=4.0,
            sides=[Side("flywheel up", "s", ups), Side("initdb + pg_ctl start", "s", postgres)],
            ratio_of=lambda sides: sides[0] / sides[1],
        )
    ]


def _up(folder: Path) -> float:
    log_path = folder.with_suffix(".log")
    started = time.perf_counter()
    command = [sys.executable, "-m", "flywheel", "up", f"--data-dir={folder}", *_ANY_PORTS]
    with child(command, {}, log_path) as process:
        assert process.stdout is not None
        # Its only line; an end without one is a failure.
        if not process.stdout.readline().startswith(b"ready "):
            raise BenchmarkError(f"flywheel up did not get ready; it says:\n{tail(log_path)}")
        taken = time.perf_counter() - started
    shutil.rmtree(folder)
    return taken


def _postgres_alone(folder: Path) -> float:
    programs = find_binaries()
    folder.mkdir(mode=0o700)
    identity = choose_identity(programs, folder.parent)
    identity.chown(folder)
    sockets = socket_directory(folder)
    ensure_private(sockets, identity)
    pg_ctl = str(programs.directory / "pg_ctl")
    options = f"-c listen_addresses= -c unix_socket_directories='{sockets}'"
    started = time.perf_counter()
    _run(identity, programs.initdb, f"--pgdata={folder}", *_INITDB)
    _run(
        identity,
        pg_ctl,
        "start",
        "--wait",
        "--silent",
        f"--pgdata={folder}",
        f"--log={folder}/log",
        f"--options={options}",
    )
    taken = time.perf_counter() - started
    _run(identity, pg_ctl, "stop", "--wait", "--silent", "--mode=fast", f"--pgdata={folder}")
    shutil.rmtree(folder)
    if sockets != folder:
        shutil.rmtree(sockets, ignore_errors=True)
    return taken


def _run(identity: Identity, *command: str) -> None:
    # No pipes: the server would inherit them, and their end be waited for.
    done = identity.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_SECONDS)
    if done.returncode != 0:
        raise BenchmarkError(f"{Path(command[0]).name} failed with {done.returncode}")
