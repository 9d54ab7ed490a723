"""The token file: changed under a lock, and replaced as a whole, so that a service never reads half of it."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from flywheel.errors import FlywheelError
from flywheel.system.file_lock import FileLock
from flywheel.tokens.model import TokenRecord

_VERSION: Final = 1
_LOCK_SECONDS: Final = 10.0
_OWNER_ONLY: Final = 0o600
# Of a file that was opened to a service's user, to its group or to a container's user, this much stays: it holds hashes.
_KEPT_MODE: Final = 0o644


def read_tokens(path: Path) -> Sequence[TokenRecord]:
    """Return the tokens in a file. Raises FlywheelError when there is none, or none of ours."""
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise FlywheelError(
            f"{path} cannot be read: {exc.strerror}", advice="flywheel token create makes it"
        ) from exc
    try:
        document = json.loads(content)
        if document["version"] != _VERSION:
            raise ValueError("version")
        return [TokenRecord.from_json(record) for record in document["tokens"]]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise FlywheelError(f"{path} was not written by flywheel token") from exc


def change_tokens(
    path: Path, change: Callable[[Sequence[TokenRecord]], Sequence[TokenRecord]], *, create: bool = False
) -> None:
    """Replace the tokens in a file by what `change` returns, one process after the other.

    With `create` a file that does not exist has none. Raises FlywheelError.
    """
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")).held(_LOCK_SECONDS):
            before = [] if create and not path.exists() else read_tokens(path)
            _write(path, change(before))
    except TimeoutError as exc:
        raise FlywheelError(f"another flywheel token has locked {path}") from exc
    except OSError as exc:
        raise FlywheelError(f"{path} cannot be written: {exc.strerror}") from exc


def _write(path: Path, tokens: Sequence[TokenRecord]) -> None:
    document = {"version": _VERSION, "tokens": [token.to_json() for token in tokens]}
    content = json.dumps(document, indent=2) + "\n"
    # Made for the owner alone, before anything is in it.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            _keep_access(path, file.fileno())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _keep_access(path: Path, descriptor: int) -> None:
    """Give the new file the owner and mode of the one before, as far as we may: a service may run as another user."""
    try:
        before = path.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, _OWNER_ONLY)
        return
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, before.st_mode & _KEPT_MODE | _OWNER_ONLY)
