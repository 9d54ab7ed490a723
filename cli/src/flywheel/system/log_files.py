"""Log files of started programs: private, the previous run kept, the last lines shown in errors."""

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from flywheel.system.output import report

# At this size a log is rotated while its program runs.
MAX_BYTES = 64 << 20
_TAIL_BYTES = 16_384
_MAX_REASON = 300
_ROUTINE = frozenset({"debug", "info"})


def open_log(path: Path) -> BinaryIO:
    """Open `path` for appending; file and folder are readable by the owner only, since logs may contain data.

    When that fails the log is discarded, which is reported: a program does not depend on its log.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        report(f"the log {path} is discarded: {exc.strerror}")
        descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    return os.fdopen(descriptor, "ab")


def keep_previous(path: Path) -> None:
    """Rename an existing log to `<name>.1`, replacing the one before. When that fails, the log is appended to."""
    with contextlib.suppress(OSError):
        path.replace(path.with_name(f"{path.name}.1"))


def shorten(path: Path, max_bytes: int = MAX_BYTES) -> None:
    """Copy a log that has reached `max_bytes` to `<name>.1`, replacing the one before, and empty it.

    For a program that cannot open its log anew. What it writes between the copy's end and the emptying is lost.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size < max_bytes:
            return
        copy = path.with_name(f"{path.name}.1")
        with path.open("rb") as log, open_private(copy) as kept:
            # Of a log that grew for long without a reader, the end.
            log.seek(max(0, log.seek(0, os.SEEK_END) - max_bytes))
            shutil.copyfileobj(log, kept)
        os.truncate(path, 0)


def open_private(path: Path) -> BinaryIO:
    """Open `path` for writing, emptied, readable by the owner only."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def tail(path: Path, lines: int = 15) -> str:
    """Return the last `lines` lines of a log, indented; empty when there is no log.

    Routine events (debug, info) are omitted, so that the reason comes first; they are shown when there is nothing else.
    """
    found = _last_lines(path)
    relevant = [line for line in found if not _is_routine(line)]
    return "\n".join(f"    {line}" for line in (relevant or found)[-lines:])


def last_reason(path: Path) -> str:
    """Return the last line of a log, truncated, unless it is a routine event; else an empty string."""
    last = next((line.strip() for line in reversed(_last_lines(path)) if line.strip()), "")
    return "" if _is_routine(last) else last[:_MAX_REASON]


def _is_routine(line: str) -> bool:
    try:
        event = json.loads(line)
    except ValueError:
        return False
    return isinstance(event, dict) and event.get("level") in _ROUTINE


def _last_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()
