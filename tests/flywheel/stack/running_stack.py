"""Stacks for tests: stand-ins in place of the services, and `flywheel up` in a process."""

import asyncio
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.system.processes import folder_identity
from tests.clusters import copy_cluster

TIMEOUT_SECONDS = 180.0
FREE_PORTS = dict.fromkeys(
    ("INCIDENT_LISTEN", "APPROVAL_LISTEN", "GATEWAY_LISTEN", "INTAKE_LISTEN"), "127.0.0.1:0"
)


def stand_ins(folder: Path) -> dict[str, str]:
    """Return the environment in which `python -m incident` and the others are stand-ins."""
    modules = {
        "incident": "incident",
        "approval": "approval",
        "metrics_gateway": "gateway",
        "alert_intake": "intake",
    }
    for module, name in modules.items():
        package = folder / "stand_ins" / module
        package.mkdir(parents=True)
        (package / "__main__.py").write_text(
            f"import sys\nsys.argv = ['stand_in', {name!r}]\nfrom stand_in import main\nmain()\n"
        )
        (package / "__init__.py").touch()
    path = [
        str(folder / "stand_ins"),
        str(Path(__file__).parent),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    return {"PYTHONPATH": os.pathsep.join(path)}


@contextmanager
def flywheel_up(
    data_dir: Path,
    environment: Mapping[str, str],
    *arguments: str,
    before: Sequence[str] = (),
    output: int = subprocess.PIPE,
    first_start: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """Run `flywheel up` on free ports; when the block ends, end it and all it started.

    Its cluster is there already unless this is the `first_start`.
    """
    if not first_start:
        copy_cluster(data_dir / "postgres")
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "flywheel", "up", "--data-dir", str(data_dir), *arguments],
        stdout=output,
        stderr=output,
        text=True,
        env={**os.environ, **FREE_PORTS, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        for service in services_of(data_dir).values():
            service.kill()
        EmbeddedPostgres(data_dir / "postgres").stop()


def line_of(stream: Any) -> str:
    """Return the next line; fail when none comes in time."""
    readable, _, _ = select.select([stream], [], [], TIMEOUT_SECONDS)
    assert readable, "no line in time"
    line: str = stream.readline()
    return line.rstrip("\n")


def services_of(data_dir: Path) -> dict[str, psutil.Process]:
    """Return the processes of the stack on `data_dir` by the module they run."""
    if not data_dir.exists():
        return {}
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get("FLYWHEEL_STACK") == folder_identity(data_dir):
                arguments = process.cmdline()
                found[arguments[arguments.index("-m") + 1] if "-m" in arguments else f"{process.pid}"] = (
                    process
                )
        except psutil.Error:
            continue
    return found


def starts(database_url: str) -> int:
    """Return how often the stand-in with this database was started."""

    async def read() -> int:
        connection = await asyncpg.connect(database_url)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM starts"))
        finally:
            await connection.close()

    return asyncio.run(read())


def eventually(question: Any) -> None:
    """Wait until `question()` is true; fail after a timeout."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not question():
        assert time.monotonic() < deadline, "not true in time"
        time.sleep(0.01)
