"""The log stream: what cannot be written is dropped and counted, a later line says so, and nothing ever raises or waits."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from servicekit.process.log_stream import LogStream

LINE = "a line\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: the end that is read and the end that is written."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def capacity_of(writer: int) -> int:
    """Make the pipe small and return how many bytes it holds."""
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 16_384)
    return fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)


def test_a_line_is_written_when_it_is_complete_or_flushed(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stream = LogStream(writer)
    print("whole", file=stream)
    assert os.read(reader, 100) == b"whole\n"
    stream.write("first\nhalf of the sec")
    assert os.read(reader, 100) == b"first\n"
    stream.flush()
    assert os.read(reader, 100) == b"half of the sec"
    stream.write("lone surrogate \udcff\n")
    assert os.read(reader, 100) == b"lone surrogate \\udcff\n"
    assert stream.dropped == 0


def test_a_full_disk_costs_lines_and_never_raises() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        stream = LogStream(full.fileno())
        stream.write(LINE * 3)
        stream.write("half a line")
        stream.flush()
        print("a line", file=stream, flush=True)
        assert stream.dropped == 5


def test_a_closed_pipe_costs_lines_and_never_raises(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stream = LogStream(writer)
    os.close(reader)
    stream.write(LINE)
    assert stream.dropped == 1
    os.close(writer)
    stream.write(LINE)
    assert stream.dropped == 2
    assert not stream.isatty()


def test_a_process_without_standard_error_has_a_log_that_is_dropped() -> None:
    stream = LogStream(None)
    stream.write(LINE)
    stream.flush()
    assert (stream.dropped, stream.isatty()) == (1, False)


def test_a_reader_that_does_not_read_is_waited_for_once_and_briefly(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    capacity = capacity_of(writer)
    stream = LogStream(writer)
    started = time.monotonic()
    for _ in range(20_000):
        stream.write(LINE)
    # Waiting for every line would take a thousand seconds, and a blocking write for ever.
    assert time.monotonic() - started < 20
    assert 20_000 - capacity // len(LINE) <= stream.dropped < 20_000
    while_blocked = stream.dropped
    assert len(os.read(reader, capacity)) > 0
    stream.write("after\n")
    written = os.read(reader, capacity).decode()
    assert written.splitlines()[-2:] == [f"({while_blocked} lines of this log were dropped)", "after"]
    assert stream.dropped == while_blocked


def test_a_slow_reader_gets_every_line(pipe: tuple[int, int]) -> None:
    """A pipe that is full for a moment is no reason to drop."""
    _, writer = pipe
    capacity_of(writer)
    program = "import sys, time\nwhile data := sys.stdin.buffer.raw.read(4096):\n    time.sleep(0.001); print(len(data))"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=pipe[0], stdout=subprocess.PIPE, text=True
    ) as slow:
        os.close(pipe[0])
        assert slow.stdout is not None
        stream = LogStream(writer)
        stream.write(LINE)
        assert slow.stdout.readline().strip() == str(len(LINE))
        for _ in range(5000):
            stream.write(LINE)
        os.close(writer)
        read = sum(int(count) for count in slow.stdout)
    assert (stream.dropped, read) == (0, 5000 * len(LINE))


def test_a_descriptor_that_somebody_made_non_blocking_gets_every_line_that_it_has_room_for(
    pipe: tuple[int, int],
) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    capacity = capacity_of(writer)
    stream = LogStream(writer)
    stream.write("x" * (capacity + 100) + "\n")
    stream.write("lost\n")
    assert stream.dropped == 2
    assert os.read(reader, 2 * capacity) == b"x" * capacity
    stream.write("after\n")
    # The line that was cut off ends; what follows are lines of their own.
    assert os.read(reader, capacity).decode().splitlines() == [
        "",
        "(2 lines of this log were dropped)",
        "after",
    ]


LIMITED = """
import resource, signal, sys
from servicekit.process.log_stream import dropped_lines, replace_stderr
replace_stderr()
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
print("12345678", file=sys.stderr)
print("cut off", file=sys.stderr)
print("lost", file=sys.stderr)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
print("after", file=sys.stderr)
print(dropped_lines())
"""


def test_a_log_that_may_grow_again_says_how_many_lines_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as log:
        done = subprocess.run([sys.executable, "-c", LIMITED], stdout=subprocess.PIPE, stderr=log, check=True)
    assert path.read_text() == "12345678\nc\n(2 lines of this log were dropped)\nafter\n"
    assert done.stdout == b"2\n"


REUSED = """
import os, sys
from servicekit.process.log_stream import dropped_lines, replace_stderr
replace_stderr()
precious = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
print("for nobody", file=sys.stderr)
os.write(precious, b"untouched")
sys.exit(0 if dropped_lines() == 1 else 9)
"""


@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_standard_error_that_is_closed_is_no_other_files_descriptor(tmp_path: Path, closed: str) -> None:
    path = tmp_path / "precious"
    shell = ["sh", "-c", f'exec "$0" -c "$1" "$2" {closed}', sys.executable, REUSED, str(path)]
    assert subprocess.run(shell, check=False).returncode == 0
    assert path.read_bytes() == b"untouched"


def test_every_text_is_edited_before_it_is_written(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stream = LogStream(writer, edit=lambda text: text.replace("hunter2", "***"))
    stream.write("hunter2\n")
    assert os.read(reader, 100) == b"***\n"
