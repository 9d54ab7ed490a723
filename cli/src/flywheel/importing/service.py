"""The import of one service: a process that reads and checks the files, and writes when it is told to."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, cast

from flywheel.errors import FlywheelError

_WRITE = "write\n"
_STOP_SECONDS = 5.0
_MOST_SAID = 4_000


@dataclass(frozen=True, slots=True, order=True)
class BadLine:
    """What is wrong with a line."""

    file: str
    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field or 'line'}: {self.reason}"


class ServiceImport:
    """`<service> import --ask`. Ended when the block ends; what it has not committed then is not written."""

    def __init__(
        self, service: str, files: Sequence[Path], *, environment: Mapping[str, str], migrate: bool
    ) -> None:
        self.service = service
        self.bad_lines: list[BadLine] = []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", service, "import", "--ask"),
                *(["--migrate"] if migrate else []),
                "--",
                *map(str, files),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
            # A Ctrl-C in the terminal is for the command: it ends this in order.
            start_new_session=True,
        )
        self._input = cast("IO[str]", self._process.stdin)
        self._output = cast("IO[str]", self._process.stdout)

    def check(self, progress: Callable[[int, int], None]) -> bool:
        """Return whether every line is good; those that are not are in `bad_lines`.

        Raises FlywheelError when the process could not tell.
        """
        return self._read("checked", progress) is not None

    def write(self, progress: Callable[[int, int], None]) -> Mapping[str, int]:
        """Write what was checked, in one transaction; returns what was done.

        Raises FlywheelError when nothing was written.
        """
        # One that has ended meanwhile has said why.
        with contextlib.suppress(BrokenPipeError):
            self._input.write(_WRITE)
            self._input.flush()
        done = self._read("done", progress)
        if done is None:
            raise bad_lines_error(self.bad_lines)
        return {name: count for name, count in done.items() if isinstance(count, int)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._errors.close()

    def _read(self, awaited: str, progress: Callable[[int, int], None]) -> Mapping[str, Any] | None:
        """Return the facts of an event; None when the process ends before it and has named bad lines."""
        for text in self._output:
            facts = json.loads(text)
            match facts.pop("event"):
                case "problem":
                    self.bad_lines.append(BadLine(**facts))
                case "progress":
                    progress(facts["done"], facts["total"])
                case event if event == awaited:
                    found: Mapping[str, Any] = facts
                    return found
        self._process.wait()
        if self.bad_lines:
            return None
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace")[-_MOST_SAID:].rstrip()
        raise FlywheelError(f"the {self.service} service's import failed", details=said)


def bad_lines_error(bad_lines: Sequence[BadLine], *, note: str = "nothing was written") -> FlywheelError:
    """Return the error that names every bad line, once."""
    named = sorted(set(bad_lines))
    return FlywheelError(
        f"{len(named)} {'mistake' if len(named) == 1 else 'mistakes'}; {note}",
        details="\n".join(map(str, named)),
        advice="docs/import.md says what a line may hold",
    )
