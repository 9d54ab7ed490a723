"""Log files of started programs: opened for one owner, the previous run kept beside, the end shown in errors."""

import os
from pathlib import Path
from typing import BinaryIO

_TAIL_BYTES = 16_384


def open_log(path: Path) -> BinaryIO:
    """Open `path` for appending, made (with its folder) for the owner alone: logs may quote data."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")


def keep_previous(path: Path) -> None:
    """Move a log that is there to `<name>.1`, in place of the one before it."""
    if path.exists():
        path.replace(path.with_name(f"{path.name}.1"))


def tail(path: Path, lines: int = 15) -> str:
    """Return the last `lines` lines of a log, indented; empty when there is no log."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
