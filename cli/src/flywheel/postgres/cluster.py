"""Creates a cluster on disk, atomically."""

import os
import shutil
import subprocess
from pathlib import Path

from flywheel.errors import FlywheelError
from flywheel.postgres.binaries import MAJOR_VERSION, PostgresBinaries
from flywheel.postgres.identity import Identity
from flywheel.system.file_lock import FileLock


def ensure_cluster(
    data_dir: Path, *, binaries: PostgresBinaries, identity: Identity, lock: FileLock, durable: bool
) -> None:
    """Create a cluster in `data_dir` unless one exists. The held `lock` keeps other processes from doing the same.

    Raises FlywheelError when the folder contains other files, or initdb fails.
    """
    version_file = data_dir / "PG_VERSION"
    if version_file.exists():
        version = version_file.read_text().strip()
        if version != str(MAJOR_VERSION):
            raise FlywheelError(
                f"the data in {data_dir} was written by PostgreSQL {version}; this is PostgreSQL {MAJOR_VERSION}",
                advice="choose another place with --data-dir, or move the data over with pg_dump",
            )
        return
    if data_dir.exists() and any(data_dir.iterdir()):
        raise FlywheelError(
            f"{data_dir} is not empty and holds no PostgreSQL data",
            advice="choose another place with --data-dir",
        )

    # Created under another name and renamed when complete: the next start discards what a kill left incomplete.
    partial = data_dir.with_name(f"{data_dir.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700)
    identity.chown(partial)
    _initdb(partial, binaries, identity, lock, durable=durable)
    partial.rename(data_dir)
    if durable:
        _sync(data_dir.parent)


def _initdb(
    directory: Path, binaries: PostgresBinaries, identity: Identity, lock: FileLock, *, durable: bool
) -> None:
    # PostgreSQL's own C.UTF-8: sorts the same on every machine, and an update of the C library cannot corrupt indexes.
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions"]
    options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not durable:
        options.append("--no-sync")
    result = identity.run(
        [binaries.initdb, f"--pgdata={directory}", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # When this process is killed, initdb continues. It inherits the lock, so that the next start does not remove the
        # folder meanwhile.
        pass_fds=(lock.descriptor,),
    )
    if result.returncode != 0:
        raise FlywheelError(
            f"initdb could not create a cluster in {directory}",
            details="\n".join(f"    {line}" for line in result.stdout.splitlines()[-15:]),
        )


def _sync(directory: Path) -> None:
    """Make a rename in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
