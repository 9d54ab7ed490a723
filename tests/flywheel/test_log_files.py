"""Logs: private, the one before kept, the end shown."""

import stat
from pathlib import Path

from flywheel.log_files import keep_previous, open_log, tail


def test_a_log_is_for_its_owner_alone_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log" / "incident.log"
    for line in (b"one\n", b"two\n"):
        with open_log(path) as log:
            log.write(line)
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_log_before_is_kept_and_the_one_before_that_is_not(tmp_path: Path) -> None:
    path = tmp_path / "incident.log"
    keep_previous(path)
    for run in ("one", "two", "three"):
        keep_previous(path)
        path.write_text(run)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {
        "incident.log": "three",
        "incident.log.1": "two",
    }


def test_the_end_of_a_log_is_shown_indented(tmp_path: Path) -> None:
    path = tmp_path / "incident.log"
    assert tail(path) == ""
    path.write_bytes(b"x" * 100_000 + b"\n" + b"".join(b"line %d \xff\n" % number for number in range(30)))
    assert tail(path, lines=2) == "    line 28 �\n    line 29 �"
