"""prometheus and promtool: those on the PATH, else Debian's, unpacked into the virtual environment.

Unpacked and not installed: nothing on the machine changes, and no daemon is started.
"""

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from flywheel.system.file_lock import FileLock
from tests.debian_packages import skip_or_fail

_PACKAGE = "prometheus"
_KEPT = Path(sys.prefix) / "debian" / _PACKAGE
_TIMEOUT_SECONDS = 240.0


class _UnavailableError(Exception):
    """Debian's package cannot be obtained here."""


def promtool() -> str:
    """Return the path of promtool. Without one the test is skipped with the reason; with CI=true it fails."""
    return _program("promtool")


def prometheus() -> str:
    """Return the path of prometheus, as `promtool` does."""
    return _program("prometheus")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is not None:
        return found
    folder = _unpacked()
    if isinstance(folder, str):
        skip_or_fail(f"{name} is not on the PATH, and {folder}")
    return str(folder / name)


@cache
def _unpacked() -> Path | str:
    """Return the folder with the programs, or why there is none."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return "apt is not available"
    _KEPT.parent.mkdir(exist_ok=True)
    # One worker unpacks, the others wait for it.
    lock = FileLock(_KEPT.with_suffix(".lock"))
    if not lock.acquire(_TIMEOUT_SECONDS):
        return "another process has been unpacking it for too long"
    try:
        if not _KEPT.exists():
            with tempfile.TemporaryDirectory(dir=_KEPT.parent) as scratch:
                _unpack(Path(scratch)).rename(_KEPT)
    except (_UnavailableError, OSError, subprocess.TimeoutExpired) as exc:
        return f"it is not available here: {exc}"
    finally:
        lock.release()
    return _KEPT / "usr" / "bin"


def _unpack(scratch: Path) -> Path:
    """Download the package and return the folder with what is in it."""
    try:
        _run(scratch, "apt-get", "download", _PACKAGE)
    except _UnavailableError:
        # The machine's package lists are missing or too old: download new ones into the scratch folder.
        options = [f"-o=Dir::State::Lists={scratch}/lists", f"-o=Dir::Cache={scratch}/cache"]
        (scratch / "lists" / "partial").mkdir(parents=True)
        (scratch / "cache" / "archives" / "partial").mkdir(parents=True)
        _run(scratch, "apt-get", *options, "update")
        _run(scratch, "apt-get", *options, "download", _PACKAGE)
    (package,) = scratch.glob("*.deb")
    unpacked = scratch / "unpacked"
    _run(scratch, "dpkg-deb", "--extract", str(package), str(unpacked))
    # It depends on the C library only: does it run with the installed one?
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
        timeout=_TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        output = (done.stderr or done.stdout).strip().splitlines()
        raise _UnavailableError(f"{command[0]} failed: {output[-1] if output else done.returncode}")
