"""Embedded PostgreSQL servers for tests: an owner process, statements, folders, binaries."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from flywheel.postgres.binaries import PostgresBinaries, find_binaries
from flywheel.postgres.embedded import EmbeddedPostgres
from tests.clusters import copy_cluster

OWNER = """
import sys
from pathlib import Path
from flywheel.postgres.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), durable=False)
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


@contextmanager
def owner_of(data_dir: Path, *wrapper: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that starts the server on `data_dir`, prints its pid, and waits; kill it when the block ends."""
    owner = subprocess.Popen(
        [*wrapper, sys.executable, "-c", OWNER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield owner
    finally:
        owner.kill()
        owner.communicate()


@contextmanager
def started(data_dir: Path, *, first_start: bool = False, **options: Any) -> Iterator[EmbeddedPostgres]:
    """Start a server that is not durable, and stop it when the block ends.

    Its cluster is there already unless this is the `first_start`.
    """
    if not first_start:
        copy_cluster(data_dir)
    server = EmbeddedPostgres(data_dir, **({"durable": False} | options))
    try:
        server.start()
        yield server
    finally:
        server.stop()


def execute(server: EmbeddedPostgres, statement: str, *, database: str = "postgres") -> Any:
    """Execute a statement through the server's URL and return its first value."""

    async def run() -> Any:
        connection = await asyncpg.connect(server.url(database))
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


@contextmanager
def public_folder() -> Iterator[Path]:
    """Yield a folder that every user can enter, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="flywheel-public-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def copy_of_binaries(target: Path) -> PostgresBinaries:
    """Copy PostgreSQL's programs and their libraries into `target`."""
    package = find_binaries().directory.parents[1]
    shutil.copytree(find_binaries().directory.parent, target / package.name / "pginstall18", symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name)
    return PostgresBinaries(target / package.name / "pginstall18" / "bin")


def without_user_namespaces(folder: Path) -> str:
    """Return a PATH whose `unshare` fails as it does without user namespaces."""
    refusing = folder / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
