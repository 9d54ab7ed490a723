"""An exclusive lock that cannot become stale: the kernel releases it when the last process that holds it ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.01


class FileLock:
    """A lock on a file. The file remains after the release, with the pid of the last holder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    @property
    def descriptor(self) -> int:
        """The descriptor of the held lock. A child that inherits it holds the lock too, until it ends."""
        if self._descriptor is None:
            raise RuntimeError(f"{self._path} is not locked here")
        return self._descriptor

    def acquire(self, timeout_seconds: float = 0.0) -> bool:
        """Take the lock, waiting up to `timeout_seconds` for it. Returns whether it was taken."""
        deadline = time.monotonic() + timeout_seconds
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        return False
                    time.sleep(_POLL_SECONDS)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            self._descriptor, descriptor = descriptor, -1
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return True

    def release(self) -> None:
        """Release the lock. Without effect when this object does not hold it."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def holder(self) -> int | None:
        """Return the pid of the last holder; None when there never was one."""
        try:
            return int(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return None

    @contextmanager
    def held(self, timeout_seconds: float) -> Iterator[None]:
        """Hold the lock for a block. Raises TimeoutError when it is not released in time."""
        if not self.acquire(timeout_seconds):
            raise TimeoutError(f"{self._path} is held by process {self.holder()}")
        try:
            yield
        finally:
            self.release()
