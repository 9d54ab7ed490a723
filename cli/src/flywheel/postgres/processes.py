"""The processes of one cluster, found by the name that each carries in its command line.

A pid file says who ran once; after a kill -9 or a reboot its number may be dead, a zombie, or someone else's. The
command lines say who runs now, and every user may read them.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil

from flywheel.system.processes import command_line, folder_identity


@dataclass(frozen=True, slots=True)
class ClusterProcesses:
    """The server of a cluster, and the processes it made. A server that died may leave some of those behind."""

    server: psutil.Process | None
    others: list[psutil.Process]


def cluster_name(data_dir: Path) -> str:
    """Return the cluster_name setting for `data_dir`."""
    return f"flywheel-{folder_identity(data_dir)}"


def find_processes(name: str) -> ClusterProcesses:
    """Return the processes of the cluster called `name` that are alive now."""
    servers: dict[int, psutil.Process] = {}
    others = []
    for process in psutil.process_iter():
        arguments = command_line(process)
        if f"cluster_name={name}" in arguments:
            servers[process.pid] = process
        # PostgreSQL writes the cluster's name into the title of each process it makes.
        elif arguments and arguments[0].startswith(f"postgres: {name}: "):
            others.append(process)
    # A process that was made this instant still has the server's command line.
    server = next((process for process in servers.values() if _parent(process) not in servers), None)
    return ClusterProcesses(server, others)


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None
