"""The benchmarks' own virtual environment: what is measured against, and the profiler. The project depends on none of it."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.errors import BenchmarkError
from flywheel.system.file_lock import FileLock

_LOCK = Path(__file__).with_name("requirements.lock")
_BUILD_SECONDS = 300.0


class Environment:
    """An environment below a folder, made when it is first needed and kept: its name is that of the locked versions."""

    def __init__(self, cache: Path, step: Callable[[str], None]) -> None:
        versions = hashlib.sha256(_LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
        self._folder = cache / f"benchmarks-{versions}"
        self._step = step

    @property
    def is_there(self) -> bool:
        """Whether it is made already: then no network is needed."""
        return self._complete.exists()

    def program(self, name: str, *, needed_for: str) -> str:
        """Return the path of one of its programs, after making it if need be. Raises BenchmarkError."""
        if not self.is_there:
            self._make(needed_for)
        return str(self._folder / "bin" / name)

    @property
    def _complete(self) -> Path:
        return self._folder / "complete"

    def _make(self, needed_for: str) -> None:
        self._step(f"installing {_LOCK.name} into {self._folder}, once")
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder.with_suffix(".lock"))
        try:
            # One process makes it, the others wait for it.
            if not lock.acquire(_BUILD_SECONDS):
                raise BenchmarkError(f"another process has been making {self._folder} for too long")
            if not self.is_there:
                _uv("venv", "--clear", "--python", sys.executable, str(self._folder), needed_for=needed_for)
                python = str(self._folder / "bin" / "python")
                install = ("pip", "install", "--python", python, "--require-hashes", "--only-binary", ":all:")
                _uv(*install, "-r", str(_LOCK), needed_for=needed_for)
                self._complete.touch()
        finally:
            lock.release()


def _uv(*arguments: str, needed_for: str) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "uv", "--quiet", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_BUILD_SECONDS,
        )
        reason = (done.stderr or done.stdout).strip() if done.returncode else ""
    except subprocess.TimeoutExpired:
        reason = f"it took longer than {_BUILD_SECONDS:.0f} s"
    if reason:
        raise BenchmarkError(
            f"{needed_for} needs {_wanted()}, and {_LOCK.name} cannot be installed: {reason}\n"
            "Remedy: run it once with PyPI within reach (a mirror is set by UV_INDEX_URL); after that no network is needed. "
            'Or leave it out: make bench ARGS="P1 P2" names those that are run.'
        )


def _wanted() -> str:
    lines = _LOCK.with_suffix(".in").read_text(encoding="utf-8").splitlines()
    return " and ".join(line for line in lines if line and not line.startswith("#"))
