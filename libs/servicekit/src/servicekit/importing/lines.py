"""Reads JSON Lines: bytes to lines that are JSON objects of a known kind, or what is wrong with them."""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servicekit.importing.formats import foreign_format
from servicekit.text import shown

# Longer than any line that could be valid; a line is held in memory, a file is not.
MAX_LINE_BYTES = 1_048_576
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong with a field of a line. `file` counts from 0, lines from 1; the field is empty for the line as such."""

    file: int
    line: int
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line that is a JSON object of a known kind. Its fields are still to be checked."""

    file: int
    number: int
    kind: str
    text: bytes

    def problem(self, field: str, reason: str) -> Problem:
        """Return what is wrong with a field of this line."""
        return Problem(self.file, self.number, field, reason)


class ImportFailedError(Exception):
    """An import failed for the reason in the message, and nothing was written."""


class UnreadableFileError(ImportFailedError):
    """A file cannot be read; the message has its name and the reason."""

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(f"{path}: {cause.strerror}")


class LineReader:
    """Reads files one after the other. `bytes_read` is its progress."""

    def __init__(self, paths: Sequence[Path], kinds: Collection[str]) -> None:
        self._paths = paths
        self._kinds = kinds
        self.bytes_read = 0
        self._digest = hashlib.sha256()

    @property
    def bytes_total(self) -> int:
        """How many bytes the files have now. Raises UnreadableFileError."""
        return sum(_size(path) for path in self._paths)

    def digest(self) -> str:
        """Return the sha256 of all files, one after the other, in hexadecimal digits. They have been read to the end."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[SourceLine | Problem]:
        """Yield every line that is not blank, or what is wrong with it. Raises UnreadableFileError."""
        for number, path in enumerate(self._paths):
            try:
                yield from self._read(number, path)
            except OSError as exc:
                raise UnreadableFileError(path, exc) from exc

    def _read(self, file: int, path: Path) -> Iterator[SourceLine | Problem]:
        empty = True
        with path.open("rb") as stream:
            line = 0
            while text := stream.readline(MAX_LINE_BYTES + 1):
                self.bytes_read += (size := len(text))
                self._digest.update(text)
                line += 1
                if line == 1:
                    text = text.removeprefix(_BYTE_ORDER_MARK)
                    if reason := foreign_format(text):
                        self.bytes_read += stream.seek(0, os.SEEK_END) - size
                        yield Problem(file, line, "", reason)
                        return
                if len(text) > MAX_LINE_BYTES:
                    empty = False
                    yield Problem(file, line, "", f"is longer than {MAX_LINE_BYTES} bytes")
                    while text and not text.endswith(b"\n"):
                        text = stream.readline(MAX_LINE_BYTES)
                        self.bytes_read += len(text)
                elif stripped := text.strip(b" \t\r\n"):
                    empty = False
                    yield self._parse(file, line, stripped)
        if empty:
            yield Problem(file, 1, "", "the file has no lines")

    def _parse(self, file: int, line: int, text: bytes) -> SourceLine | Problem:
        try:
            kind = _object(text).get("kind")
        except _BadLineError as exc:
            return Problem(file, line, exc.field, f"{exc}")
        if not isinstance(kind, str) or kind not in self._kinds:
            return Problem(file, line, "kind", f"expected {' or '.join(self._kinds)}")
        return SourceLine(file, line, kind, text)


class _BadLineError(Exception):
    """A line cannot be read; the message is the reason."""

    def __init__(self, reason: str, *, field: str = "") -> None:
        super().__init__(reason)
        self.field = field


def _object(text: bytes) -> dict[str, Any]:
    """Return the JSON object in a line. Raises _BadLineError."""
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
    except UnicodeDecodeError as exc:
        raise _BadLineError(f"is not UTF-8: byte {exc.start + 1}") from None
    except json.JSONDecodeError as exc:
        raise _BadLineError(f"is not JSON: {exc.msg} at character {exc.pos + 1}") from None
    except RecursionError:
        raise _BadLineError("is nested too deeply") from None
    except ValueError:
        raise _BadLineError("is not JSON: has a number that is none, or is too long") from None
    if not isinstance(found, dict):
        raise _BadLineError("is not a JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _BadLineError("is there twice", field=shown(name))
        found[name] = value
    return found


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as exc:
        raise UnreadableFileError(path, exc) from exc
