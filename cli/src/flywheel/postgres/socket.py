"""The server's unix socket, and its URL."""

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from flywheel.errors import FlywheelError
from flywheel.postgres.identity import Identity

# The port only names the socket file. It is in every URL, or a PGPORT in the user's environment would apply.
PORT = 5432
SOCKET_NAME = f".s.PGSQL.{PORT}"
SOCKET_LOCK_NAME = f"{SOCKET_NAME}.lock"
# sockaddr_un has 108 bytes on Linux and 104 on macOS, the last one zero.
_MAX_PATH_BYTES = 103 if sys.platform == "darwin" else 107


def socket_directory(data_dir: Path) -> Path:
    """Return the folder of the socket: the data folder, or one named after it with a shorter path."""
    name = f"flywheel-{os.geteuid()}-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]}"
    candidates = (data_dir, Path(tempfile.gettempdir()) / name, Path("/tmp") / name)  # noqa: S108 - made 0700, and verified
    return next((place for place in candidates if _fits(place)), candidates[-1])


def database_url(directory: Path, database: str) -> str:
    """Return the libpq URL of a database behind the socket in `directory`."""
    return f"postgresql://postgres@/{quote(database, safe='')}?host={quote(str(directory))}&port={PORT}"


def ensure_private(directory: Path, identity: Identity) -> None:
    """Create the socket's folder, accessible to its owner only.

    Raises FlywheelError when the name exists and another user could have created it.
    """
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        found = directory.lstat()
        owner = os.geteuid() if identity.user is None else identity.user
        if not directory.is_dir() or directory.is_symlink() or found.st_uid != owner or found.st_mode & 0o077:
            raise FlywheelError(
                f"{directory} is not a folder of this user alone, so PostgreSQL's socket cannot be put there",
                advice="remove it, or choose a shorter --data-dir, which then holds the socket itself",
            ) from None
    else:
        identity.chown(directory)


def _fits(directory: Path) -> bool:
    # A comma separates hosts in a URL and folders in PostgreSQL's setting; neither can have a name that is not UTF-8.
    try:
        path = str(directory / SOCKET_NAME).encode()
    except UnicodeEncodeError:
        return False
    return len(path) <= _MAX_PATH_BYTES and b"," not in path
