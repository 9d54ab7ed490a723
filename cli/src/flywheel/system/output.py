"""Output that never fails: a full disk or a closed terminal must not stop a running stack."""

import io
import os
import select
import sys
from typing import Final

# A write of so many bytes to a pipe or terminal that is writable does not block.
_CHUNK_BYTES: Final = 4096
# How long a line waits for a slow reader. After a timeout no line waits until there is room again.
_WAIT_MILLISECONDS: Final = 200


class LossyOutput(io.TextIOBase):
    """A line-buffered text stream on a file descriptor. A line that cannot be written is dropped; the next one gives their number."""

    encoding = "utf-8"

    def __init__(self, descriptor: int, encoding: str = "utf-8") -> None:
        self.encoding = encoding
        self._descriptor = descriptor
        self._wait_milliseconds = _WAIT_MILLISECONDS
        self._pending = ""
        self._dropped = 0
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal that still exists."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Text can be written at any time."""
        return True

    def write(self, text: str) -> int:
        """Write the lines that `text` completes."""
        lines, newline, self._pending = (self._pending + text).rpartition("\n")
        if newline:
            self._write(lines + newline)
        return len(text)

    def flush(self) -> None:
        """Write a line that has no end yet."""
        text, self._pending = self._pending, ""
        if text:
            self._write(text)

    def close(self) -> None:
        """Do nothing: standard error is written to until the process ends."""

    def _write(self, text: str) -> None:
        notice = f"flywheel: {self._dropped} lines of output were dropped\n" if self._dropped else ""
        try:
            self._send(notice)
            self._dropped = 0
            self._send(text)
        except OSError:
            self._dropped += text.count("\n") or 1

    def _send(self, text: str) -> None:
        data = text.encode(self.encoding, "backslashreplace")
        while data:
            is_writable = self._poll.poll(self._wait_milliseconds)
            self._wait_milliseconds = _WAIT_MILLISECONDS if is_writable else 0
            if not is_writable:
                raise TimeoutError
            data = data[os.write(self._descriptor, data[:_CHUNK_BYTES]) :]


def protect_stderr() -> None:
    """Replace standard error by a stream that never fails.

    Standard streams that were closed at the start are opened on the null device: otherwise the next file would get their
    descriptor, and what is written to them.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stderr = LossyOutput(2, sys.stderr.encoding if sys.stderr is not None else "utf-8")


def protect_stdout() -> None:
    """Replace standard output by a stream that never fails, for a command that goes on after it has printed its result."""
    sys.stdout = LossyOutput(1, sys.stdout.encoding if sys.stdout is not None else "utf-8")


def report(line: str) -> None:
    """Print a line for the user on standard error."""
    print(f"flywheel: {line}", file=sys.stderr, flush=True)  # noqa: T201 - for the user
