"""Copies of inputs that can be read once only: both services read every line of every file."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from flywheel.errors import FlywheelError

# Names here may mean another file in another process, as /dev/stdin does.
_OF_THE_PROCESS = (Path("/dev"), Path("/proc"))


@contextmanager
def spooled(files: Sequence[Path]) -> Iterator[Mapping[Path, Path]]:
    """Yield the regular files to read, each with the file that it stands for; pipes are copied for the block.

    Raises FlywheelError when an input cannot be read to its end.
    """
    with tempfile.TemporaryDirectory(prefix="flywheel-import-") as folder:
        readable = {}
        for number, file in enumerate(files):
            if _is_regular(file):
                readable[file] = file
            else:
                copy = Path(folder) / f"{number}.jsonl"
                _copy(file, copy)
                readable[copy] = file
        yield readable


def _is_regular(file: Path) -> bool:
    place = Path(os.path.abspath(file))  # noqa: PTH100 - links are not followed: /dev/stdin is one
    return file.is_file() and not any(place.is_relative_to(folder) for folder in _OF_THE_PROCESS)


def _copy(file: Path, copy: Path) -> None:
    try:
        with file.open("rb") as source, copy.open("xb") as target:
            mode = os.fstat(source.fileno()).st_mode
            # A device such as /dev/zero has no end.
            if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or source.isatty()):
                raise FlywheelError(f"{file} is neither a file nor a pipe")
            shutil.copyfileobj(source, target)
    except OSError as exc:
        raise FlywheelError(f"{file} cannot be copied into {copy.parent}: {exc.strerror}") from exc
