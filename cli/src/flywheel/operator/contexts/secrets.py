"""Files with secrets: read only when their owner alone can read them."""

import os
import stat
from pathlib import Path

from flywheel.errors import FlywheelError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MAX_BYTES = 65_536


def read_secret(path: Path) -> bytes:
    """Return the content. Raises FlywheelError when others may read it, or it cannot be read."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise FlywheelError(f"{path} is no regular file")
            if found.st_mode & _OTHERS:
                raise FlywheelError(
                    f"{path} may be read by others: its mode is {stat.S_IMODE(found.st_mode):04o}",
                    advice=f"chmod 600 {path}; if others had access to it, replace what is in it",
                )
            if found.st_uid not in (os.geteuid(), 0):
                raise FlywheelError(
                    f"{path} belongs to another user", advice="a secret's file belongs to its user"
                )
            return file.read(_MAX_BYTES)
    except OSError as exc:
        raise FlywheelError(f"{path} cannot be read: {exc.strerror}") from exc


def read_token(path: Path) -> str:
    """Return the token in a file. Raises FlywheelError."""
    words = read_secret(path).split()
    if len(words) != 1 or not words[0].isascii():
        raise FlywheelError(f"{path} holds no token", advice="a token file has one line, the token")
    return words[0].decode("ascii")


def write_private(path: Path, content: bytes) -> None:
    """Replace a file as a whole; its owner alone can read it, and its folder. Raises FlywheelError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as exc:
        raise FlywheelError(f"{path} cannot be written: {exc.strerror}") from exc
