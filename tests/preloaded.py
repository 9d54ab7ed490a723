"""Services that are forked by a process that has loaded them: loading is three quarters of a start.

Not for what is said of the start itself: the modules, the command line, the messages. For that a service is started as an
operator starts it (tests/services.py).
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

_starting = threading.Lock()


class ForkedService:
    """A process of a service; it has of `subprocess.Popen` what tests use."""

    def __init__(self, package: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Fork it; the process that has loaded the package is started for the first."""
        ours, stderr = os.pipe()
        self._status, status = os.pipe()
        self._reading = threading.Lock()
        self.returncode: int | None = None
        self.stderr: IO[str] = os.fdopen(ours, encoding="utf-8", errors="replace")
        try:
            with _starting:
                _loaded(package).request(arguments, environment, stderr=stderr, status=status)
        finally:
            os.close(stderr)
            os.close(status)
        self.pid = self._read()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self._poll(0.0) is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        """Return the exit code when it has ended; negative: the signal that killed it."""
        code = self._poll(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(["fork of", str(self.pid)], timeout)
        return code

    def _poll(self, timeout: float) -> int | None:
        with self._reading:
            if self.returncode is None:
                poll = select.poll()
                poll.register(self._status, select.POLLIN)
                if poll.poll(timeout * 1000):
                    self.returncode = self._read()
                    os.close(self._status)
            return self.returncode

    def _read(self) -> int:
        found = os.read(self._status, 4)
        assert found, "the process that forks services has ended"
        return int.from_bytes(found, "big", signed=True)


class _Loaded:
    """The process that has loaded a service, a child of this one."""

    def __init__(self, package: str) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            program = Path(__file__).with_name("preloading.py")
            self._process = subprocess.Popen(
                [sys.executable, program, package, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self.end)

    def request(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, stderr: int, status: int
    ) -> None:
        """Fork a service that writes to `stderr`. Its process id and, when it has ended, its exit code are written to `status`."""
        message = json.dumps({"arguments": list(arguments), "environment": dict(environment)}).encode()
        socket.send_fds(self._control, [message], [stderr, status])

    def end(self) -> None:
        """End the process, which kills the services that are left."""
        self._control.close()
        self._process.wait()


@cache
def _loaded(package: str) -> _Loaded:
    return _Loaded(package)
