"""Dump and restore with PostgreSQL's own programs, of the version that the tests' servers have."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from flywheel.postgres.binaries import find_binaries, program_environment
from flywheel.postgres.embedded import EmbeddedPostgres


@asynccontextmanager
async def own_cluster(directory: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A running PostgreSQL of the test's own: another cluster than every other one."""
    server = EmbeddedPostgres(directory, durable=False)
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


async def dump(url: str, file: Path) -> None:
    """Write the database at `url` to `file`."""
    await _run("pg_dump", "--format=custom", f"--file={file}", f"--dbname={url}")


async def restore(file: Path, url: str) -> None:
    """Fill the empty database at `url` from `file`."""
    await _run("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={url}", str(file))


async def _run(program: str, *arguments: str) -> None:
    running = await asyncio.create_subprocess_exec(
        find_binaries().directory / program,
        *arguments,
        env=program_environment(),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await running.communicate()
    assert running.returncode == 0, f"{program}: {errors.decode()}"
