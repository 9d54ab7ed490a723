"""Programs that some tests drive and PyPI does not have. Where apt can install them, they are installed, once."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from flywheel.system.file_lock import FileLock

_TIMEOUT_SECONDS = 280.0


def require_programs(programs: Sequence[str], packages: Sequence[str]) -> Sequence[str]:
    """Return the paths of `programs`, after installing the Debian `packages` that have them if one is missing.

    Skips the test, saying why, where that cannot be done; with CI=true fails it instead: there they must be tested.
    """
    if not _all_found(programs):
        problem = _install(programs, packages)
        if problem is not None:
            skip_or_fail(f"{', '.join(programs)}: not installed, and {problem}")
    return [str(shutil.which(program)) for program in programs]


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test, or fail it with CI=true: there every test must run."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _all_found(programs: Sequence[str]) -> bool:
    return all(shutil.which(program) for program in programs)


def _install(programs: Sequence[str], packages: Sequence[str]) -> str | None:
    """Install the packages and return None, or why that was not possible."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return f"only root with apt-get can install them: apt-get install {' '.join(packages)}"
    # One worker installs, the others wait for it.
    lock = FileLock(Path(tempfile.gettempdir()) / "flywheel-tests-apt-get.lock")
    if not lock.acquire(_TIMEOUT_SECONDS):
        return "another process has been installing packages for too long"
    try:
        if not _all_found(programs):
            # The lists of what there is are missing or old on most machines. One of several sources may be out of reach:
            # the installation fails if that matters.
            _apt_get("update")
            problem = _apt_get("install", "--no-install-recommends", *packages)
            return problem if problem or _all_found(programs) else f"{' '.join(packages)} did not bring them"
        return None
    finally:
        lock.release()


def _apt_get(*arguments: str) -> str | None:
    """Run apt-get and return None, or what it said when it failed."""
    try:
        finished = subprocess.run(
            ["apt-get", "-qq", "-y", *arguments],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"apt-get {arguments[0]} took longer than {_TIMEOUT_SECONDS:.0f} s"
    return None if finished.returncode == 0 else f"apt-get failed: {finished.stderr.strip()[-300:]}"
