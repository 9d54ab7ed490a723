"""The other side of P8: Debian's prometheus-postgres-exporter, which answers the gateway's figures by custom queries."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from benchmarks.errors import BenchmarkError
from benchmarks.servers import RunningServer, child, free_address, wait_for
from flywheel.programs.debian import Packages, UnavailableError, is_unpacked, unpacked

_PACKAGE = Packages(
    "forky",
    ["prometheus-postgres-exporter"],
    {"prometheus-postgres-exporter": "usr/bin/prometheus-postgres-exporter"},
    major=0,
)
_NAME = "prometheus-postgres-exporter"
# PostgreSQL's own figures, which are not asked for.
_COLLECTORS = (
    "database",
    "locks",
    "replication",
    "replication_slot",
    "roles",
    "stat_bgwriter",
    "stat_database",
    "stat_progress_vacuum",
    "stat_user_tables",
    "statio_user_tables",
    "wal",
)


def exporter_is_there() -> bool:
    """Whether it is on the PATH or unpacked already: then no network is needed."""
    return shutil.which(_NAME) is not None or is_unpacked(_PACKAGE)


@contextmanager
def postgres_exporter(service: str, database_url: str, folder: Path) -> Iterator[RunningServer]:
    """Run an exporter on the database of the incident or the approval service. Raises BenchmarkError without the program."""
    address = free_address()
    command = [
        _program(),
        f"--web.listen-address={address}",
        f"--extend.query-path={Path(__file__).with_name(f'{service}.yml')}",
        # Its own, empty: the default is a file of the machine.
        f"--config.file={folder / 'exporter.yml'}",
        "--disable-default-metrics",
        "--disable-settings-metrics",
        *(f"--no-collector.{name}" for name in _COLLECTORS),
    ]
    (folder / "exporter.yml").write_text("{}\n")
    log_path = folder / f"exporter-{service}.log"
    with child(command, {"DATA_SOURCE_NAME": _data_source(database_url)}, log_path) as process:
        yield RunningServer(process, wait_for(process, lambda: _listens(address), log_path), log_path)


def _program() -> str:
    found = shutil.which(_NAME)
    if found is not None:
        return found
    try:
        return unpacked(_PACKAGE)[_NAME]
    except UnavailableError as exc:
        raise BenchmarkError(
            f"P8 needs {_NAME}, which is not on the PATH, and Debian's package cannot be unpacked: {exc}\n"
            f"Remedy: apt-get install {_NAME}, or a mirror of Debian within reach, once. "
            'Or leave it out: make bench ARGS="P1 P2" names those that are run.'
        ) from exc


def _data_source(database_url: str) -> str:
    parts = urlsplit(database_url)
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return (
        f"user={parts.username} dbname={parts.path.removeprefix('/')} host={options['host']} port={options['port']} "
        "sslmode=disable"
    )


def _listens(address: str) -> str:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return ""
    return address
