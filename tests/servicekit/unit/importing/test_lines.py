"""Reading JSON Lines: what is a line, and what is said about what is none."""

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from servicekit.importing.lines import (
    MAX_LINE_BYTES,
    LineReader,
    Problem,
    SourceLine,
    UnreadableFileError,
)

KINDS = ("incident", "approval")
GOOD = b'{"kind": "incident"}'


def read(path: Path, content: bytes) -> list[SourceLine | Problem]:
    path.write_bytes(content)
    return list(LineReader([path], KINDS))


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        pytest.param(b"{", "", "is not JSON: Expecting property name", id="cut off"),
        pytest.param(
            b'{"kind": "incident"', "", "is not JSON: Expecting ',' delimiter at character 20", id="open"
        ),
        pytest.param(GOOD + b" {}", "", "is not JSON: Extra data", id="two objects"),
        pytest.param(b"{'kind': 'incident'}", "", "is not JSON", id="single quotes"),
        pytest.param(
            b'{"kind": "incident", "title": "a\x00b"}', "", "is not JSON: Invalid control", id="a raw NUL"
        ),
        pytest.param(b'{"kind": "incident", "x": NaN}', "", "is not JSON: has a number", id="NaN"),
        pytest.param(b'{"kind": "incident", "x": -Infinity}', "", "is not JSON: has a number", id="infinity"),
        pytest.param(
            b'{"kind": "incident", "x": ' + b"9" * 5000 + b"}", "", "is not JSON: has a number", id="digits"
        ),
        pytest.param(b'{"kind": "inc\xffdent"}', "", "is not UTF-8: byte 14", id="not UTF-8"),
        pytest.param(b'{"kind": "\xed\xa0\x80"}', "", "is not UTF-8: byte 11", id="half a character"),
        pytest.param(GOOD.decode().encode("utf-16"), "", "is not UTF-8", id="UTF-16"),
        pytest.param(b'{"x": ' + b"[" * 100_000, "", "is nested too deeply", id="deep"),
        pytest.param(b'["incident"]', "", "is not a JSON object", id="a list"),
        pytest.param(b"null", "", "is not a JSON object", id="null"),
        pytest.param(
            b'{"kind": "incident", "kind": "approval"}', "kind", "is there twice", id="a name twice"
        ),
        pytest.param(b'{"a\\nb": 1, "a\\nb": 2}', '"a\\nb"', "is there twice", id="a line break in a name"),
        pytest.param(b"{}", "kind", "expected incident or approval", id="no kind"),
        pytest.param(b'{"kind": "Incident"}', "kind", "expected incident or approval", id="an unknown kind"),
        pytest.param(b'{"kind": 1}', "kind", "expected incident or approval", id="a kind that is a number"),
        pytest.param(
            b'{"x": "' + b"y" * MAX_LINE_BYTES + b'"}',
            "",
            f"is longer than {MAX_LINE_BYTES} bytes",
            id="too long",
        ),
    ],
)
def test_a_bad_line_is_named_and_the_next_one_is_read(
    tmp_path: Path, line: bytes, field: str, reason: str
) -> None:
    before, bad, after = read(tmp_path / "lines", GOOD + b"\n" + line + b"\n" + GOOD + b"\n")
    assert isinstance(bad, Problem)
    assert (bad.line, bad.field) == (2, field)
    assert bad.reason.startswith(reason)
    assert [each.number for each in (before, after) if isinstance(each, SourceLine)] == [1, 3]


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        pytest.param(GOOD, [1], id="no line break at the end"),
        pytest.param(GOOD + b"\r\n" + GOOD + b"\r\n", [1, 2], id="two characters that break a line"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, [1], id="a byte order mark"),
        pytest.param(b"\n  \n" + GOOD + b"\n\n" + GOOD, [3, 5], id="blank lines count and say nothing"),
    ],
)
def test_lines_are_found_and_numbered(tmp_path: Path, content: bytes, numbers: list[int]) -> None:
    found = read(tmp_path / "lines", content)
    assert [(each.number, each.text) for each in found if isinstance(each, SourceLine)] == [
        (number, GOOD) for number in numbers
    ]
    assert len(found) == len(numbers)


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\n"], ids=["empty", "a line break", "blank"])
def test_a_file_without_lines_is_a_mistake(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path / "lines", content) == [Problem(0, 1, "", "the file has no lines")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param((GOOD + b"\n").decode().encode("utf-16"), "UTF-16, not UTF-8: convert", id="UTF-16"),
        pytest.param(b"\xfe\xff" + GOOD.decode().encode("utf-16-be"), "UTF-16, not", id="UTF-16, big end"),
        pytest.param(GOOD.decode().encode("utf-16-le"), "UTF-16, not", id="UTF-16 without a mark"),
        pytest.param(GOOD.decode().encode("utf-16-be"), "UTF-16, not", id="UTF-16, big end, without a mark"),
        pytest.param(GOOD.decode().encode("utf-32"), "UTF-32, not", id="UTF-32"),
        pytest.param(gzip.compress(GOOD), "gzip, not UTF-8: unpack", id="gzip"),
        pytest.param(bz2.compress(GOOD), "bzip2, not", id="bzip2"),
        pytest.param(lzma.compress(GOOD), "xz, not", id="xz"),
        pytest.param(b"[\n" + GOOD + b"\n]\n", "not JSON Lines", id="a list over several lines"),
        pytest.param(b'{\n  "kind": "incident"\n}\n', "not JSON Lines", id="an object over several lines"),
    ],
)
def test_a_file_of_another_format_is_one_problem(tmp_path: Path, content: bytes, reason: str) -> None:
    paths = [tmp_path / "foreign", tmp_path / "good"]
    paths[0].write_bytes(content + (b"\n" + content) * 2)
    paths[1].write_bytes(GOOD)
    reader = LineReader(paths, KINDS)
    problem, good = reader
    assert isinstance(problem, Problem)
    assert (problem.file, problem.line, problem.field) == (0, 1, "")
    assert problem.reason.startswith(f"the file is {reason}")
    assert isinstance(good, SourceLine)
    assert reader.bytes_read == reader.bytes_total


def test_every_file_is_read_and_counted(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    paths[0].write_bytes(GOOD + b"\n" + b"y" * (MAX_LINE_BYTES * 3) + b"\n" + GOOD)
    paths[1].write_bytes(GOOD)
    reader = LineReader(paths, KINDS)
    found = [(each.file, each.number if isinstance(each, SourceLine) else each.line) for each in reader]
    assert found == [(0, 1), (0, 2), (0, 3), (1, 1)]
    assert reader.bytes_read == reader.bytes_total


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    reader = LineReader([tmp_path / name], KINDS)
    with pytest.raises(UnreadableFileError, match=str(tmp_path)):
        list(reader)
