"""prometheus and promtool: those on the PATH, else Debian's, unpacked beside the interpreter's packages.

Unpacked and not installed: nothing on the machine changes, and no daemon is started.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from flywheel.system.file_lock import FileLock

_PACKAGE = "prometheus"
_KEPT = Path(sys.prefix) / "debian" / _PACKAGE
_PATIENCE_SECONDS = 240.0


class _NotToBeHadError(Exception):
    """Debian's package cannot be had here."""


def promtool() -> str:
    """Return the path of promtool. Skips the test, saying why, where it cannot be had; with CI=true fails it."""
    return _program("promtool")


def prometheus() -> str:
    """Return the path of prometheus, as `promtool` does."""
    return _program("prometheus")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is not None:
        return found
    folder = _unpacked()
    if isinstance(folder, Path):
        return str(folder / name)
    reason = f"{name} is not on the PATH, and {folder}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def _unpacked() -> Path | str:
    """Return the folder with the programs, or why there is none."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return "there is no apt to get it with"
    _KEPT.parent.mkdir(exist_ok=True)
    # One worker unpacks, the others wait for it.
    lock = FileLock(_KEPT.with_suffix(".lock"))
    if not lock.acquire(_PATIENCE_SECONDS):
        return "another process has been unpacking it for too long"
    try:
        if not _KEPT.exists():
            with tempfile.TemporaryDirectory(dir=_KEPT.parent) as scratch:
                _unpack(Path(scratch)).rename(_KEPT)
    except (_NotToBeHadError, OSError, subprocess.TimeoutExpired) as exc:
        return f"it cannot be had here: {exc}"
    finally:
        lock.release()
    return _KEPT / "usr" / "bin"


def _unpack(scratch: Path) -> Path:
    """Download the package and return the folder with what is in it."""
    try:
        _run(scratch, "apt-get", "download", _PACKAGE)
    except _NotToBeHadError:
        # The machine's own lists are missing or too old: others, of our own.
        options = [f"-o=Dir::State::Lists={scratch}/lists", f"-o=Dir::Cache={scratch}/cache"]
        (scratch / "lists" / "partial").mkdir(parents=True)
        (scratch / "cache" / "archives" / "partial").mkdir(parents=True)
        _run(scratch, "apt-get", *options, "update")
        _run(scratch, "apt-get", *options, "download", _PACKAGE)
    (package,) = scratch.glob("*.deb")
    unpacked = scratch / "unpacked"
    _run(scratch, "dpkg-deb", "--extract", str(package), str(unpacked))
    # It needs nothing but the C library: does it run with the one that is here?
    _run(scratch, str(unpacked / "usr" / "bin" / "prometheus"), "--version")
    return unpacked


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_SECONDS,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise _NotToBeHadError(f"{command[0]} failed: {said[-1] if said else done.returncode}")
