"""One service: a process with an address, a log, and a readiness probe."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from flywheel.errors import FlywheelError
from flywheel.stack.addresses import Address
from flywheel.stack.readiness import Probe
from flywheel.system.log_files import last_reason, open_log, tail

_POLL_SECONDS = 0.01
START_SECONDS = 60.0
# Longer than a service's drain time and the end of its background work: it ends in order, and is killed only when it hangs.
STOP_SECONDS = 20.0


class Service:
    """A service that can be started and stopped repeatedly, always on the same address."""

    def __init__(
        self,
        name: str,
        *,
        command: Sequence[str],
        environment: Mapping[str, str],
        address: Address,
        probe: Probe,
        log_path: Path,
        folder: Path | None = None,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        """`folder` is its working directory; that of this process when not given."""
        self.name = name
        self.address = address
        self.log_path = log_path
        self._command = command
        self._environment = environment
        self._probe = probe
        self._folder = folder
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The pid of the latest process; None when it was stopped."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the service and return when it is ready. Raises FlywheelError with the last lines of its log."""
        self.launch()
        wait_until_ready([self])

    def launch(self) -> None:
        """Start the process and return immediately."""
        if self._process is not None and self._process.poll() is None:
            return
        with open_log(self.log_path) as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._environment,
                # A Ctrl-C in the terminal must reach the command only, which stops the services in order.
                start_new_session=True,
            )

    def stop(self, grace_seconds: float | None = None) -> None:
        """Terminate the process, and kill it when that takes longer than `grace_seconds`."""
        if self._process is None:
            return
        process = self._process
        process.terminate()
        process.send_signal(signal.SIGCONT)  # a stopped process receives no other signal
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self._stop_seconds if grace_seconds is None else grace_seconds)
        self._kill_group(process)
        process.wait()
        self._process = None

    def is_ready(self) -> bool:
        """Whether the service is ready."""
        return self._probe(self.address.connect_address)

    def exit_status(self) -> str | None:
        """Return a description of how the process ended by itself; None when it runs or was stopped."""
        if self._process is None or self._process.poll() is None:
            return None
        status = self._process.returncode
        return f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"

    def exit_reason(self) -> str:
        """Return the last line of the log when the process failed; empty when it was killed."""
        failed = self._process is not None and (self._process.poll() or 0) > 0
        return last_reason(self.log_path) if failed else ""

    def restart(self) -> None:
        """Start the process again after it ended by itself, and kill its remaining child processes."""
        if self._process is not None:
            self._kill_group(self._process)
        self.launch()

    @staticmethod
    def _kill_group(process: subprocess.Popen[bytes]) -> None:
        """Kill the process and its children. The group keeps its number as long as one of them exists."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def wait_until_ready(services: Sequence[Service], timeout_seconds: float = START_SECONDS) -> None:
    """Return when all `services` are ready. Raises FlywheelError when one ends, or after a timeout."""
    deadline = time.monotonic() + timeout_seconds
    waiting = list(services)
    while waiting:
        for service in waiting:
            if (ended := service.exit_status()) is not None:
                raise FlywheelError(
                    f"the {service.name} service ended while starting ({ended})",
                    advice=f"see {service.log_path}",
                    details=tail(service.log_path),
                )
        waiting = [service for service in waiting if not service.is_ready()]
        if waiting and time.monotonic() >= deadline:
            names = " and ".join(service.name for service in waiting)
            raise FlywheelError(
                f"not ready after {timeout_seconds:.0f} s: {names}",
                advice=f"see {waiting[0].log_path}",
                details=tail(waiting[0].log_path),
            )
        time.sleep(_POLL_SECONDS)
