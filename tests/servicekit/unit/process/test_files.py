"""Why a file cannot be read, in words."""

import errno

import pytest

from servicekit.process.files import why_unreadable


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOENT, "x"), "there is no such file"),
        (OSError(errno.EACCES, "x"), "permission denied"),
        (OSError(errno.EISDIR, "x"), "it is a folder"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), "it is not UTF-8 text"),
        (OSError(errno.ENOTDIR, "Not a directory"), "not a directory"),
        (OSError(), "it cannot be read"),
    ],
    ids=["missing", "forbidden", "a folder", "no text", "another reason", "no reason"],
)
def test_the_reason_is_in_words(error: OSError | UnicodeDecodeError, words: str) -> None:
    assert why_unreadable(error) == words
