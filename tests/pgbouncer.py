"""A real PgBouncer in transaction mode, in front of the run's PostgreSQL: Debian's, unpacked into the virtual environment.

Version 1.18 knows no prepared statements: one that is used in a later transaction fails, or meets another client's.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from flywheel.postgres.binaries import find_binaries
from flywheel.postgres.identity import Identity, choose_identity
from flywheel.programs.debian import Packages, UnavailableError, unpacked
from tests.databases import postgres_socket, shared_postgres
from tests.debian_packages import skip_or_fail

_PACKAGES = Packages(
    "bookworm",
    # With the libraries that not every machine has.
    ["pgbouncer", "libc-ares2", "libevent-2.1-7"],
    {"pgbouncer": "usr/sbin/pgbouncer"},
    major=1,
    # It does not run without those libraries.
    tells_version=False,
)
_START_SECONDS = 30.0
_PORT = 6432


class PgBouncer:
    """A running pooler."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, database_url: str, parameters: str = "") -> str:
        """Return the URL of a database of the run's server through the pooler."""
        query = f"host={quote(str(self._folder))}&port={_PORT}{parameters}"
        return urlunsplit(urlsplit(database_url)._replace(query=query))


@contextmanager
def pgbouncer(*, pool_size: int, settings: str = "") -> Iterator[PgBouncer]:
    """A pooler with so many connections to each database, until the block ends."""
    program = _program()
    server = shared_postgres()
    # Like PostgreSQL it refuses to run as root.
    identity = choose_identity(find_binaries(), server.data_dir)
    folder = Path(tempfile.mkdtemp(prefix="flywheel-pgbouncer-", dir="/tmp"))
    try:
        (folder / "pgbouncer.ini").write_text(f"""
[databases]
* = host={Path(postgres_socket()).parent} user=postgres
[pgbouncer]
unix_socket_dir = {folder}
listen_port = {_PORT}
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
{settings}
""")
        for path in (folder, folder / "pgbouncer.ini"):
            identity.chown(path)
        with _running(program, folder, identity):
            yield PgBouncer(folder)
    finally:
        shutil.rmtree(folder)


@contextmanager
def _running(program: Path, folder: Path, identity: Identity) -> Iterator[None]:
    libraries = next((program.parents[1] / "lib").glob("*-linux-gnu"))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            identity.command([str(program), str(folder / "pgbouncer.ini")]),
            env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **identity.credentials,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not (folder / f".s.PGSQL.{_PORT}").exists():
            written = (folder / "log").read_text(errors="replace")
            assert process.poll() is None, written
            assert time.monotonic() < deadline, written
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.wait()


@cache
def _program() -> Path:
    found = shutil.which("pgbouncer")
    if found is not None:
        return Path(found)
    try:
        return Path(unpacked(_PACKAGES)["pgbouncer"])
    except UnavailableError as exc:
        skip_or_fail(f"pgbouncer is not on the PATH, and Debian's cannot be unpacked: {exc}")
