"""Starts and stops the server process of a cluster, from any state that a previous owner left.

The server is not our child and has its own session: a Ctrl-C in the terminal does not reach it, and it outlives a killed
owner. A server that was started here and one that was found are therefore alike: a process with the cluster's name.
"""

import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from flywheel.errors import FlywheelError
from flywheel.postgres.client import PostgresClient
from flywheel.postgres.identity import Identity
from flywheel.postgres.processes import cluster_name, find_processes
from flywheel.postgres.socket import PORT, SOCKET_LOCK_NAME
from flywheel.system.log_files import keep_previous, open_log, tail
from flywheel.system.processes import command_line, end_all, is_alive, signal_all, wait_until

# Timeout of a health check, and how many in a row may time out before the server counts as hung.
_PROBE_SECONDS = 5.0
_HUNG_AFTER_PROBES = 2
# Child processes of a dead server end by themselves, unless one is in a computation.
_ORPHANS_LEAVE_SECONDS = 2.0
_KILL_SECONDS = 5.0

_DETACH = '"$@" >&2 & echo $!'


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """The server on `data_dir`. One caller at a time: the holder of the folder's lock."""

    data_dir: Path
    client: PostgresClient
    settings: Mapping[str, str]
    log_path: Path
    start_seconds: float
    stop_seconds: float

    def bring_up(self, identity: Identity) -> psutil.Process:
        """Return a server that responds and has these settings: the running one, or a new one.

        Each has its own time to respond. Raises FlywheelError when the new one does not.
        """
        arguments = self._arguments()
        server = find_processes(self.data_dir).server
        if server is not None:
            if command_line(server) == arguments and self.responds(server):
                return server
            self._end(server)
        self._end_orphans()
        self._remove_stale_pid_files()

        server = self._launch(arguments, identity)
        deadline = time.monotonic() + self.start_seconds
        # The pid file shows when it accepts connections; earlier health checks would only fill its log.
        wait_until(lambda: self._is_ready(server) or not is_alive(server), deadline - time.monotonic())
        if not self._responds(server, deadline):
            raise self._not_started()
        return server

    def _not_started(self) -> FlywheelError:
        return FlywheelError(
            f"PostgreSQL did not start on {self.data_dir}",
            advice=f"see {self.log_path}",
            details=tail(self.log_path),
        )

    def bring_down(self) -> None:
        """Return when no process of the cluster is left: by a fast shutdown, and by a kill when that takes too long."""
        server = find_processes(self.data_dir).server
        if server is not None:
            self._end(server)
        self._end_orphans()

    def _arguments(self) -> list[str]:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.client.socket_directory),
            "port": str(PORT),
            "cluster_name": cluster_name(self.data_dir),
            **self.settings,
        }
        arguments = [self.client.binaries.postgres, "-D", str(self.data_dir)]
        return arguments + [part for name, value in options.items() for part in ("-c", f"{name}={value}")]

    def _launch(self, arguments: list[str], identity: Identity) -> psutil.Process:
        keep_previous(self.log_path)
        with open_log(self.log_path) as log:
            shell = identity.run(
                ["/bin/sh", "-c", _DETACH, "sh", *arguments],
                check=True,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        try:
            return psutil.Process(int(shell.stdout))
        except psutil.NoSuchProcess:
            # It has ended already.
            raise self._not_started() from None

    def _is_ready(self, server: psutil.Process) -> bool:
        try:
            lines = (self.data_dir / "postmaster.pid").read_text(errors="surrogateescape").splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(server.pid)] and lines[7:8] == ["ready   "]

    def responds(self, server: psutil.Process) -> bool:
        """Whether a running server executes a statement within the time of a start."""
        return self._responds(server, time.monotonic() + self.start_seconds)

    def _responds(self, server: psutil.Process, deadline: float) -> bool:
        """Wait for a statement to succeed: a hung server still has a pid, a socket, even accepted connections."""
        timeouts = 0
        while is_alive(server) and time.monotonic() < deadline and timeouts < _HUNG_AFTER_PROBES:
            try:
                if self.client.responds(_PROBE_SECONDS):
                    return True
            except TimeoutError:
                timeouts += 1
            else:
                # It refuses: starting, recovering, or stopping.
                time.sleep(0.05)
        return False

    def _end(self, server: psutil.Process) -> None:
        escalation = (
            (signal.SIGINT, self.stop_seconds),  # fast: ends the sessions and writes a checkpoint
            (signal.SIGQUIT, _KILL_SECONDS),  # immediate: the next start recovers
            (signal.SIGKILL, _KILL_SECONDS),
        )
        if not end_all([server], escalation):
            raise FlywheelError(
                f"PostgreSQL (process {server.pid}) cannot be stopped", details=tail(self.log_path)
            )

    def _end_orphans(self) -> None:
        """Wait for the child processes of a dead server, which still use its memory and files; then end them."""
        for number in (signal.SIGQUIT, signal.SIGKILL):
            if wait_until(lambda: not find_processes(self.data_dir).others, _ORPHANS_LEAVE_SECONDS):
                return
            signal_all(find_processes(self.data_dir).others, number)
        if not wait_until(lambda: not find_processes(self.data_dir).others, _KILL_SECONDS):
            pids = ", ".join(str(process.pid) for process in find_processes(self.data_dir).others)
            raise FlywheelError(
                f"processes of an earlier PostgreSQL on {self.data_dir} cannot be ended: {pids}",
                details=tail(self.log_path),
            )

    def _remove_stale_pid_files(self) -> None:
        """Remove the pid files of a dead server: PostgreSQL would take a zombie or a reused pid for the server."""
        pid_file = self.data_dir / "postmaster.pid"
        try:
            process = psutil.Process(int(pid_file.read_text(errors="surrogateescape").split("\n", 1)[0]))
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            process = None
        if process is not None and is_alive(process) and self._is_foreign_server(process):
            raise FlywheelError(
                f"a PostgreSQL that flywheel did not start uses {self.data_dir}",
                advice=f"stop it: kill {process.pid}",
            )
        pid_file.unlink(missing_ok=True)
        (self.client.socket_directory / SOCKET_LOCK_NAME).unlink(missing_ok=True)

    def _is_foreign_server(self, process: psutil.Process) -> bool:
        arguments = command_line(process)
        if not arguments or Path(arguments[0]).name != "postgres":
            return False
        try:
            return Path(process.cwd()) == self.data_dir
        except psutil.Error:
            return str(self.data_dir) in arguments
