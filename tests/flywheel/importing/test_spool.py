"""Inputs of an import that can be read once only."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flywheel.errors import FlywheelError
from flywheel.importing.spool import spooled

_SHOW = """
import sys
from pathlib import Path
from flywheel.importing.spool import spooled
with spooled([Path("/dev/stdin")]) as files:
    ((copy, name),) = files.items()
    print(name, copy.read_text(), end="")
"""


def test_a_regular_file_is_read_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.touch()
    with spooled([file]) as files:
        assert dict(files) == {file: file}


def test_a_fifo_is_copied_once_and_the_copy_removed(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    feeding = threading.Thread(target=fifo.write_text, args=("line\n" * 10_000,))
    feeding.start()
    with spooled([fifo]) as files:
        ((copy, name),) = files.items()
        assert name == fifo
        assert copy.read_text() == "line\n" * 10_000
    feeding.join()
    assert not copy.exists()


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_standard_input_is_copied(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-c", _SHOW]
    if kind == "pipe":
        shown = subprocess.run(command, input="line\n", capture_output=True, text=True, check=True)
    else:
        (tmp_path / "lines").write_text("line\n")
        with (tmp_path / "lines").open() as lines:
            shown = subprocess.run(command, stdin=lines, capture_output=True, text=True, check=True)
    assert shown.stdout == "/dev/stdin line\n"


def test_a_device_without_an_end_is_refused() -> None:
    with (
        pytest.raises(FlywheelError, match="/dev/zero is neither a file nor a pipe"),
        spooled([Path("/dev/zero")]),
    ):
        pass
