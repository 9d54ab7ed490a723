"""Standard error that never fails: lines that cannot be written are dropped and counted, and a later line reports the number.

A full disk, a quota, a closed pipe or a reader that does not read must cost log lines, never the work that logs.
"""

import contextlib
import io
import os
import select
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# A write of so many bytes to a pipe that is writable does not block.
_CHUNK_BYTES: Final = 4096
# How long a line waits for a reader that is slower than the writer. After a line that waited in vain no line waits, until
# there is room again: a reader that has stopped costs this once.
_WAIT_MILLISECONDS: Final = 50
_STANDARD_DESCRIPTORS: Final = (0, 1, 2)
# A file of a log is larger than its limit by at most this part, and a line.
_CHECKS_BETWEEN_ROTATIONS: Final = 64


@dataclass(frozen=True, slots=True)
class LogFile:
    """A log that is rotated by size: the file before is kept as `<name>.1`, the one before that is removed."""

    path: Path
    max_bytes: int


class LogStream(io.TextIOBase):
    """A text stream of whole lines on a file descriptor. Safe to use from several threads."""

    encoding = "utf-8"

    def __init__(
        self,
        descriptor: int | None,
        *,
        notice: Callable[[int], str] = "({} lines of this log were dropped)".format,
        edit: Callable[[str], str] = str,
    ) -> None:
        """With no descriptor everything is dropped.

        `notice` makes the line that reports how many were dropped; `edit` changes every text before it is written.
        """
        self.notice = notice
        self._descriptor = descriptor
        self._edit = edit
        self._lock = threading.RLock()
        self._pending = ""
        self._dropped = 0
        self._unreported = 0
        # The last line was cut off in the middle: the next one needs a line of its own.
        self._cut_off = False
        self._poll: select.poll | None = None
        self._wait_milliseconds = _WAIT_MILLISECONDS
        self._file: LogFile | None = None
        # After so many more bytes the file's size is looked at: others write to it, too.
        self._unchecked = 0
        if descriptor is not None and not _is_file(descriptor):
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLOUT)

    @property
    def dropped(self) -> int:
        """How many lines were dropped since the process started."""
        return self._dropped

    def fileno(self) -> int:
        """Return the file descriptor."""
        if self._descriptor is None:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        try:
            return self._descriptor is not None and os.isatty(self._descriptor)
        except OSError:
            return False

    def writable(self) -> bool:
        """Text can be written at any time."""
        return True

    def write(self, text: str) -> int:
        """Write the lines that `text` completes; never fails."""
        with self._lock:
            lines, newline, self._pending = (self._pending + text).rpartition("\n")
            if newline:
                self._write_or_drop(lines + newline)
        return len(text)

    def flush(self) -> None:
        """Write a line that has no end yet; never fails."""
        with self._lock:
            text, self._pending = self._pending, ""
            if text:
                self._write_or_drop(text)

    def write_to(self, file: LogFile) -> str:
        """Make the descriptor, and standard output where that is the same, write to `file`, and rotate it from now on.

        Returns why that is not possible; empty when it is.
        """
        with self._lock:
            try:
                self._open(file)
            except OSError as exc:
                return exc.strerror or type(exc).__name__
            self._file = file
        return ""

    def drop(self) -> None:
        """Count a line that could not even be made."""
        with self._lock:
            self._count(1)

    def close(self) -> None:
        """Nothing: standard error may be written to after it was closed."""

    def _write_or_drop(self, text: str) -> None:
        head = "\n" if self._cut_off else ""
        if self._unreported:
            head += self.notice(self._unreported).rstrip("\n") + "\n"
        notice, lines = _encoded(head), _encoded(self._edit(text))
        written = self._send(notice + lines)
        if written >= len(notice):
            self._unreported = 0
        if written:
            self._cut_off = (notice + lines)[written - 1 : written] != b"\n"
        if written < len(notice) + len(lines):
            self._count(text.count("\n") or 1)
        else:
            # Text that was flushed before its line had an end is not cut off.
            self._cut_off = False
        self._unchecked -= written
        if self._file is not None and self._unchecked <= 0:
            self._rotate_when_large(self._file)

    def _rotate_when_large(self, file: LogFile) -> None:
        """Rotate the file at its size. When that fails, the file goes on growing, and it is tried again."""
        self._unchecked = file.max_bytes // _CHECKS_BETWEEN_ROTATIONS
        with contextlib.suppress(OSError):
            if os.fstat(self.fileno()).st_size >= file.max_bytes:
                # It may have been renamed before, by an attempt that could not open the next one.
                with contextlib.suppress(FileNotFoundError):
                    file.path.replace(file.path.with_name(f"{file.path.name}.1"))
                self._open(file)

    def _open(self, file: LogFile) -> None:
        """Point the descriptor to the file: all that this process writes there, not this stream alone, goes with it."""
        opened = os.open(file.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if self._descriptor is None:
                self._descriptor = 2
            elif _is_same(1, self._descriptor):
                os.dup2(opened, 1)
            os.dup2(opened, self._descriptor)
        finally:
            os.close(opened)
        self._poll = None

    def _count(self, lines: int) -> None:
        self._dropped += lines
        self._unreported += lines

    def _send(self, data: bytes) -> int:
        """Write as much of `data` as can be written; returns how many bytes."""
        left = memoryview(data)
        while left and (written := self._send_chunk(left)):
            left = left[written:]
        return len(data) - len(left)

    def _send_chunk(self, data: memoryview) -> int:
        """Write some of `data`; returns how many bytes, 0 when none can be written."""
        if self._descriptor is None:
            return 0
        try:
            if self._poll is not None:
                has_room = self._poll.poll(self._wait_milliseconds)
                self._wait_milliseconds = _WAIT_MILLISECONDS if has_room else 0
                if not has_room:
                    return 0
                data = data[:_CHUNK_BYTES]
            return os.write(self._descriptor, data)
        except (OSError, RuntimeError):
            # RuntimeError: a signal handler that writes interrupted a write that waits.
            return 0


def replace_stderr(*, edit: Callable[[str], str] = str) -> LogStream:
    """Make standard error a LogStream, for everything in this process that writes to it; returns it.

    Standard streams that the process was started without are opened on nothing: otherwise the next file or connection would
    take their descriptor, and get what is written to them.
    """
    if isinstance(sys.stderr, LogStream):
        return sys.stderr
    usable = sys.__stderr__ is not None and _is_open(2)
    for descriptor in _STANDARD_DESCRIPTORS:
        if not _is_open(descriptor):
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    stream = LogStream(2 if usable else None, edit=edit)
    sys.stderr = stream
    return stream


def dropped_lines() -> int:
    """Return how many lines of its log this process has dropped."""
    return sys.stderr.dropped if isinstance(sys.stderr, LogStream) else 0


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _is_file(descriptor: int) -> bool:
    """Return whether writing to it cannot wait for a reader."""
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _is_same(descriptor: int, other: int) -> bool:
    """Return whether both are open on the same file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.fstat(other))
    except OSError:
        return False
