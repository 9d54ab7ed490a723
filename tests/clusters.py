"""Clusters of PostgreSQL for tests that start a server of their own: copies of one, as initdb has made it.

initdb takes a second. Not for tests of the first start, which runs it.
"""

import subprocess
from functools import cache
from pathlib import Path

from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.system.file_lock import FileLock
from tests.databases import run_directory

_TIMEOUT_SECONDS = 240.0


def copy_cluster(data_dir: Path) -> Path:
    """Make `data_dir` a cluster that was never used, unless it exists; as the identity that made the first. Returns it."""
    if not data_dir.exists():
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--archive", _original(), data_dir], check=True, timeout=_TIMEOUT_SECONDS)
    return data_dir


@cache
def _original() -> Path:
    """The run's original; one worker makes it, the others wait for it."""
    original = run_directory() / "cluster"
    with FileLock(original.with_suffix(".making")).held(_TIMEOUT_SECONDS):
        if not original.exists():
            making = original.with_name("making")
            server = EmbeddedPostgres(making, durable=False)
            server.start()
            server.stop()
            making.rename(original)
    return original
