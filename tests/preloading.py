"""A process that has loaded a service and forks it: `python preloading.py <package> <descriptor>`. See tests/preloaded.py.

From its `main()` on, a forked service is what an operator starts; only its modules were loaded before.
"""

import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_MAX_REQUEST_BYTES = 200_000


class Preloading:
    """The loaded service, and those that were forked from it."""

    def __init__(self, package: str, control: socket.socket) -> None:
        """Load it; `control` is where the requests come from."""
        self._program = importlib.import_module(f"{package}.__main__")
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        # Ctrl-C in the terminal is for the tests; they end this process.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # What a fork copies is a process with one thread.
        assert len(list(Path("/proc/self/task").iterdir())) == 1

    def run(self) -> Callable[[], None]:
        """Serve requests until no client is left; then no service is left. Returns what the process does then; in a fork: be the service."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is not self._control:
                    self._report(key)
                elif not (received := socket.recv_fds(self._control, _MAX_REQUEST_BYTES, 2))[0]:
                    self._end()
                    return sys.exit
                elif self._is_fork(*received[1]):
                    return self._service(json.loads(received[0]))

    def _is_fork(self, stderr: int, status: int) -> bool:
        """Fork. Returns whether this process is the new one."""
        process = os.fork()
        if process == 0:
            os.dup2(stderr, sys.stderr.fileno())
            for key in self._selector.get_map().values():
                if key.data is not None:
                    os.close(key.fd)
                    os.close(key.data[1])
            self._selector.close()
            self._control.close()
            os.close(status)
        else:
            os.write(status, process.to_bytes(4, "big", signed=True))
            self._selector.register(os.pidfd_open(process), selectors.EVENT_READ, (process, status))
        os.close(stderr)
        return process == 0

    def _service(self, request: Mapping[str, Any]) -> Callable[[], None]:
        sys.argv = [str(self._program.__file__), *request["arguments"]]
        os.environ.clear()
        os.environ.update(request["environment"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # The one module that reads the environment when it is loaded.
        importlib.reload(sys.modules["servicekit.process.failpoints"])
        main: Callable[[], None] = self._program.main
        return main

    def _end(self) -> None:
        """Kill the services that are left: their tests were, too."""
        for key in self._selector.get_map().values():
            if key.data is not None:
                os.kill(key.data[0], signal.SIGKILL)
                os.waitpid(key.data[0], 0)

    def _report(self, key: selectors.SelectorKey) -> None:
        """Tell how a service ended."""
        process, status = key.data
        self._selector.unregister(key.fileobj)
        os.close(key.fd)
        _, ended = os.waitpid(process, 0)
        os.write(status, os.waitstatus_to_exitcode(ended).to_bytes(4, "big", signed=True))
        os.close(status)


if __name__ == "__main__":
    # Left as an ordinary program is: with what is to be done at exit.
    Preloading(sys.argv[1], socket.socket(fileno=int(sys.argv[2]))).run()()
