"""An embedded PostgreSQL server: no installation, no account, no TCP port."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from flywheel.errors import FlywheelError
from flywheel.postgres.binaries import PostgresBinaries, find_binaries
from flywheel.postgres.client import PostgresClient
from flywheel.postgres.cluster import ensure_cluster
from flywheel.postgres.identity import choose_identity
from flywheel.postgres.processes import find_processes, socket_directory_of
from flywheel.postgres.server import PostgresServer
from flywheel.postgres.socket import database_url, ensure_private, socket_directory
from flywheel.system.file_lock import FileLock
from flywheel.system.log_files import tail
from flywheel.system.processes import is_alive

# With these an acknowledged commit may be lost when the machine crashes: for tests only.
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """The server on the cluster in `data_dir`, which is created if missing.

    Objects for the same folder, in one or several processes, share the server: each may start, use and stop it.
    `settings` are PostgreSQL's, by name. The log is beside the data unless `log_path` is given. Failures raise
    FlywheelError, with the last lines of the log.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        log_path: Path | None = None,
        binaries: PostgresBinaries | None = None,
        start_seconds: float = 60.0,
        stop_seconds: float = 10.0,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.log_path = log_path or self.data_dir.with_name(f"{self.data_dir.name}.log")
        self._durable = durable
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._settings = {**({} if durable else _NOT_DURABLE), **(settings or {})}
        self._binaries = binaries or find_binaries()
        self._lock = FileLock(self.data_dir.with_name(f"{self.data_dir.name}.lock"))
        self._process: psutil.Process | None = None

    def url(self, database: str) -> str:
        """Return the libpq URL of a database, which may not exist yet."""
        return database_url(self._socket_directory(), database)

    @property
    def pid(self) -> int | None:
        """The pid of the server; None when it does not run."""
        return self._process.pid if self.is_running() and self._process is not None else None

    def is_running(self) -> bool:
        """Whether the server's process exists. It may still be starting, or hang."""
        return self._running_server() is not None

    def start(self) -> None:
        """Return when the server responds: the running one, if it has the same settings, or a new one."""
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        identity = choose_identity(self._binaries, self.data_dir)
        with self._locked():
            ensure_cluster(
                self.data_dir,
                binaries=self._binaries,
                identity=identity,
                lock=self._lock,
                durable=self._durable,
            )
            server = self._server()
            ensure_private(server.client.socket_directory, identity)
            self._process = server.bring_up(identity)

    def join(self) -> None:
        """Return when the running server responds. Never ends it, as `start` may: a stack is using it."""
        running = self._running_server()
        if running is None or not self._server().responds(running):
            raise FlywheelError(
                f"the PostgreSQL on {self.data_dir} does not respond",
                advice=f"see {self.log_path}",
                details=tail(self.log_path),
            )

    def stop(self) -> None:
        """Return when no process of the server is left; immediately when there was none."""
        if not self.data_dir.exists():
            return
        with self._locked():
            server = self._server()
            server.bring_down()
            if server.client.socket_directory != self.data_dir:
                with contextlib.suppress(OSError):
                    server.client.socket_directory.rmdir()

    def create_database(self, name: str) -> None:
        """Create a database unless it exists. The server must run."""
        self._server().client.create_database(name)

    def _running_server(self) -> psutil.Process | None:
        if (self._process is None or not is_alive(self._process)) and self.data_dir.exists():
            self._process = find_processes(self.data_dir).server
        return self._process if self._process is not None and is_alive(self._process) else None

    def _socket_directory(self) -> Path:
        """Return the running server's folder, which is another one when its owner had another TMPDIR."""
        running = self._running_server()
        return (running and socket_directory_of(running)) or socket_directory(self.data_dir)

    def _server(self) -> PostgresServer:
        return PostgresServer(
            data_dir=self.data_dir,
            client=PostgresClient(self._binaries, self._socket_directory()),
            settings=self._settings,
            log_path=self.log_path,
            start_seconds=self._start_seconds,
            stop_seconds=self._stop_seconds,
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the cluster's lock, which other processes and an interrupted initdb hold as well."""
        try:
            with self._lock.held(self._start_seconds):
                yield
        except TimeoutError as exc:
            raise FlywheelError(
                f"another process is at work on {self.data_dir} and does not finish", details=f"    {exc}"
            ) from exc
