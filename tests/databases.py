"""PostgreSQL for tests: one server for the whole run, one fresh database for each test that asks.

The first worker that needs the server starts it; it ends with the run. Its data is in memory where there is room, and not
durable.
What a test changes on the server itself (stopping it, killing it) is for a server of the test's own: EmbeddedPostgres on
a folder below `tmp_path`.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg
import pytest_asyncio

from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.system.file_lock import FileLock

Migrate = Callable[[str], Awaitable[None]]

_RUN_DIRECTORY = "FLYWHEEL_TEST_RUN"
_PREFIX = f"flywheel-tests-{os.geteuid()}-"
_MAX_CONNECTIONS = 400
_prepared: set[str] = set()
# A database is 300 files: to copy one takes four times as long on a disk.
_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it is private
_MEMORY_BYTES = 2 << 30


class SharedRun:
    """The folder that all workers of one run share, with their server in it."""

    def __init__(self) -> None:
        """Make the folder, pass it to the workers through the environment, and clear away what killed runs left."""
        for left in (each for place in _places() for each in place.glob(f"{_PREFIX}*")):
            _remove_unless_alive(left)
        self._directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_places()[0]))
        # Locked before it gets the name under which others would try it.
        starting = self._directory / "starting"
        self._alive = FileLock(starting)
        self._alive.acquire()
        starting.rename(self._directory / "alive")
        os.environ[_RUN_DIRECTORY] = str(self._directory)

    def end(self) -> None:
        """Stop the server, if anyone started it, and remove the folder."""
        _server_in(self._directory).stop()
        # Released last: a run that starts just now clears away what is not locked.
        shutil.rmtree(self._directory)
        self._alive.release()
        del os.environ[_RUN_DIRECTORY]


def run_directory() -> Path:
    """Return the folder that all workers of the run share; it is removed at the end."""
    return Path(os.environ[_RUN_DIRECTORY])


@cache
def shared_postgres() -> EmbeddedPostgres:
    """Return the run's server, started."""
    server = _server_in(run_directory())
    server.start()
    return server


def postgres_url(database: str = "postgres") -> str:
    """Return the libpq URL of a database on the run's server."""
    return shared_postgres().url(database)


def postgres_socket() -> str:
    """Return the path of the unix socket of the run's server, for a proxy in front of it."""
    address = parse_qs(urlsplit(postgres_url()).query)
    return f"{address['host'][0]}/.s.PGSQL.{address['port'][0]}"


def url_through(address: str, url: str) -> str:
    """Return the URL of the same database through a proxy that listens on `address` (`host:port`)."""
    return urlunsplit(urlsplit(url)._replace(netloc=f"postgres@{address}", query=""))


@asynccontextmanager
async def cloned_database(template: str, migrate: Migrate) -> AsyncIterator[str]:
    """Give the URL of a fresh database with the schema that `migrate(url)` makes; it is dropped afterwards.

    `migrate` runs once in a run, for the first who asks for this `template`; all others get a copy.
    """
    await _ensure_template(template, migrate)
    async with empty_database(template=template) as url:
        yield url


@asynccontextmanager
async def empty_database(*, template: str = "template1") -> AsyncIterator[str]:
    """Give the URL of a new database; it is dropped afterwards, open connections notwithstanding."""
    name = f"{template}_{uuid.uuid4().hex}"
    await _administer(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield postgres_url(name)
    finally:
        await _administer(f'DROP DATABASE "{name}" WITH (FORCE)')


def database_fixture(template: str, migrate: Migrate) -> Any:
    """Return a fixture whose value is the URL of a database of its own for each test, as `cloned_database` gives it.

    For a conftest: `database = database_fixture("incident", migrate)`.
    """

    @pytest_asyncio.fixture
    async def database() -> AsyncIterator[str]:
        async with cloned_database(template, migrate) as url:
            yield url

    return database


async def _ensure_template(template: str, migrate: Migrate) -> None:
    if template in _prepared:
        return
    connection = await asyncpg.connect(postgres_url())
    try:
        # One worker migrates, the others wait for it. The name appears when the template is complete.
        await connection.execute("SELECT pg_advisory_lock(hashtext($1))", template)
        if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", template):
            unfinished = f"{template}_unfinished"
            await connection.execute(f'DROP DATABASE IF EXISTS "{unfinished}" WITH (FORCE)')
            await connection.execute(f'CREATE DATABASE "{unfinished}"')
            await migrate(postgres_url(unfinished))
            # A connection that is left open would make every copy fail: better that migrating fails.
            await connection.execute(f'ALTER DATABASE "{unfinished}" WITH ALLOW_CONNECTIONS false')
            await connection.execute(f'ALTER DATABASE "{unfinished}" RENAME TO "{template}"')
    finally:
        await connection.close()
    _prepared.add(template)


async def _administer(statement: str) -> None:
    connection = await asyncpg.connect(postgres_url())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _places() -> Sequence[Path]:
    """Where runs have their folders: in memory where there is room; the best first."""
    disk = Path(tempfile.gettempdir())
    if not os.access(_MEMORY, os.W_OK):
        return [disk]
    has_room = shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES
    return [_MEMORY, disk] if has_room else [disk, _MEMORY]


def _server_in(directory: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(
        directory / "postgres", durable=False, settings={"max_connections": str(_MAX_CONNECTIONS)}
    )


def _remove_unless_alive(directory: Path) -> None:
    alive = FileLock(directory / "alive")
    if (directory / "alive").exists() and alive.acquire():
        _server_in(directory).stop()
        shutil.rmtree(directory, ignore_errors=True)
        alive.release()
