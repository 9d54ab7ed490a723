"""The import of one service: a process that validates the files, and writes on command."""

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
_MAX_OUTPUT = 4_000


@dataclass(frozen=True, slots=True, order=True)
class BadLine:
    """A line with a problem."""

    file: str
    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field or 'line'}: {self.reason}"


class ServiceImport:
    """`<service> import --ask`. Terminated when the block ends; an uncommitted import is not written."""

    def __init__(
        self, service: str, files: Mapping[Path, Path], *, environment: Mapping[str, str], migrate: bool
    ) -> None:
        """Start it on `files`, each with the name that it has in errors."""
        self.service = service
        self._names = {str(file): str(name) for file, name in files.items()}
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
            # A Ctrl-C in the terminal must reach the command only, which ends this process in order.
            start_new_session=True,
        )
        self._input = cast("IO[str]", self._process.stdin)
        self._output = cast("IO[str]", self._process.stdout)

    def check(self, progress: Callable[[int, int], None]) -> bool:
        """Return whether every line is valid; the others are in `bad_lines`.

        Raises FlywheelError when the process failed.
        """
        return self._read("checked", progress) is not None

    def write(self, progress: Callable[[int, int], None]) -> Mapping[str, int]:
        """Write the validated lines in one transaction; returns the counts.

        Raises FlywheelError when nothing was written.
        """
        # The output of a process that has ended has the reason.
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
        """Return the fields of an event; None when the process ends before it and has named bad lines."""
        for text in self._output:
            fields = json.loads(text)
            match fields.pop("event"):
                case "problem":
                    self.bad_lines.append(self._bad_line(**fields))
                case "progress":
                    progress(fields["done"], fields["total"])
                case event if event == awaited:
                    found: Mapping[str, Any] = fields
                    return found
        self._process.wait()
        if self.bad_lines:
            return None
        self._errors.seek(0)
        output = self._errors.read().decode(errors="replace")[-_MAX_OUTPUT:].rstrip()
        raise FlywheelError(f"the {self.service} service's import failed", details=output)

    def _bad_line(self, *, file: str, **fields: Any) -> BadLine:
        return BadLine(file=self._names.get(file, file), **fields)


def bad_lines_error(bad_lines: Sequence[BadLine], *, note: str = "nothing was written") -> FlywheelError:
    """Return an error that names every bad line once."""
    named = sorted(set(bad_lines))
    return FlywheelError(
        f"{len(named)} {'mistake' if len(named) == 1 else 'mistakes'}; {note}",
        details="\n".join(map(str, named)),
        advice="see docs/import.md for the format of the lines",
    )
