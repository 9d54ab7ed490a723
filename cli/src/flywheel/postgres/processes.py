"""The processes of one cluster, found by the cluster's name in their command lines.

The pid in a pid file may be dead, a zombie, or reused after a kill -9 or a reboot. Command lines show the processes that
run now, and every user can read them.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil

from flywheel.system.processes import command_line, folder_identity


@dataclass(frozen=True, slots=True)
class ClusterProcesses:
    """The server of a cluster and its child processes, which can outlive it."""

    server: psutil.Process | None
    others: list[psutil.Process]


def cluster_name(data_dir: Path) -> str:
    """Return the cluster_name setting for `data_dir`."""
    return f"flywheel-{folder_identity(data_dir)}"


def find_processes(name: str) -> ClusterProcesses:
    """Return the running processes of the cluster `name`."""
    servers: dict[int, psutil.Process] = {}
    others = []
    for process in psutil.process_iter():
        arguments = command_line(process)
        if f"cluster_name={name}" in arguments:
            servers[process.pid] = process
        # PostgreSQL puts the cluster's name into the title of each child process.
        elif arguments and arguments[0].startswith(f"postgres: {name}: "):
            others.append(process)
    # A child process still has the server's command line for an instant.
    server = next((process for process in servers.values() if _parent(process) not in servers), None)
    return ClusterProcesses(server, others)


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None
