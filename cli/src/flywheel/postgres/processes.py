"""The processes of one cluster, found by the cluster's name in their command lines.

The pid in a pid file may be dead, a zombie, or reused after a kill -9 or a reboot. Command lines show the processes that
run now, and every user can read them.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil

from flywheel.postgres.socket import SOCKET_NAME
from flywheel.system.processes import command_line, folder_identity


@dataclass(frozen=True, slots=True)
class ClusterProcesses:
    """The server of a cluster and its child processes, which can outlive it."""

    server: psutil.Process | None
    others: list[psutil.Process]


def cluster_name(data_dir: Path) -> str:
    """Return the cluster_name setting for `data_dir`."""
    return f"flywheel-{folder_identity(data_dir)}"


def find_processes(data_dir: Path) -> ClusterProcesses:
    """Return the running processes of the cluster in `data_dir`, which must exist.

    A process of another user is none of them: any user can give any name.
    """
    name, owner = cluster_name(data_dir), data_dir.stat().st_uid
    servers: dict[int, psutil.Process] = {}
    others = []
    for process in psutil.process_iter():
        arguments = command_line(process)
        is_server = f"cluster_name={name}" in arguments
        # PostgreSQL puts the cluster's name into the title of each child process.
        is_other = bool(arguments) and arguments[0].startswith(f"postgres: {name}: ")
        if (is_server or is_other) and _user(process) == owner:
            if is_server:
                servers[process.pid] = process
            else:
                others.append(process)
    # A child process still has the server's command line for an instant.
    server = next((process for process in servers.values() if _parent(process) not in servers), None)
    return ClusterProcesses(server, others)


def socket_directory_of(server: psutil.Process) -> Path | None:
    """Return the folder of a running server's socket, from its command line; None when there is no socket in it."""
    setting = "unix_socket_directories="
    for argument in command_line(server):
        if argument.startswith(setting):
            directory = Path(argument.removeprefix(setting))
            return directory if (directory / SOCKET_NAME).is_socket() else None
    return None


def _user(process: psutil.Process) -> int | None:
    try:
        return process.uids().effective
    except psutil.Error:
        return None


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None
