"""The process that runs the DBOS workflow, turn after turn."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.servers import child
from flywheel.system.log_files import tail

_PROGRAM = Path(__file__).with_name("workflow.py")


class DbosProcess:
    """A started program of `workflow.py`."""

    def __init__(self, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
        self._process = process
        self._log_path = log_path

    def rate(self, approvals: int) -> float:
        """Bring so many approvals through the workflow and return how many a second were."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{approvals}\n".encode())
        self._process.stdin.flush()
        return approvals / float(self.answer())

    def answer(self) -> str:
        """Return its next line. Raises BenchmarkError when it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode().strip()
        if not line:
            raise BenchmarkError(f"the DBOS workflow ended; its log ends with:\n{tail(self._log_path)}")
        return line


@contextmanager
def dbos_process(
    python: str, database_url: str, log_path: Path, *, outstanding: int
) -> Iterator[DbosProcess]:
    """Run the program by the interpreter `python`, on an empty database."""
    with child([python, str(_PROGRAM), database_url, str(outstanding)], {}, log_path) as process:
        started = DbosProcess(process, log_path)
        started.answer()
        yield started
