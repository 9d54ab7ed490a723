"""Logs: private, the previous one kept, the end shown."""

import stat
from pathlib import Path

import pytest

from flywheel.system.log_files import keep_previous, last_reason, open_log, shorten, tail


def test_a_log_is_private_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log" / "incident.log"
    for line in (b"one\n", b"two\n"):
        with open_log(path) as log:
            log.write(line)
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_only_one_previous_log_is_kept(tmp_path: Path) -> None:
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


ROUTINE = '{"event":"serving","level":"info"}'
WARNING = '{"event":"database_away","level":"warning"}'


@pytest.mark.parametrize(
    ("lines", "shown", "reason"),
    [
        pytest.param(["the reason", ROUTINE, ROUTINE], ["the reason"], "", id="routine last"),
        pytest.param(
            [ROUTINE, WARNING, "the reason", ""], [WARNING, "the reason", ""], "the reason", id="text"
        ),
        pytest.param([ROUTINE, WARNING], [WARNING], WARNING, id="a warning"),
        pytest.param([ROUTINE], [ROUTINE], "", id="nothing but routine"),
        pytest.param(["1", "[]"], ["1", "[]"], "[]", id="other JSON"),
    ],
)
def test_routine_events_are_no_exit_reason(
    tmp_path: Path, lines: list[str], shown: list[str], reason: str
) -> None:
    path = tmp_path / "incident.log"
    path.write_text("".join(f"{line}\n" for line in lines))
    assert tail(path).splitlines() == [f"    {line}" for line in shown]
    assert last_reason(path) == reason


def test_without_a_log_there_is_no_exit_reason(tmp_path: Path) -> None:
    assert last_reason(tmp_path / "incident.log") == ""


def test_a_large_log_is_emptied_while_it_is_written_to_and_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "postgres.log"
    with open_log(path) as log:
        log.write(b"x" * 99)
        log.flush()
        shorten(path, max_bytes=100)
        assert [each.name for each in tmp_path.iterdir()] == ["postgres.log"]
        log.write(b"y" * 51)
        log.flush()
        shorten(path, max_bytes=100)
        log.write(b"after")
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {
        "postgres.log": "after",
        "postgres.log.1": "x" * 49 + "y" * 51,
    }
    assert stat.S_IMODE((tmp_path / "postgres.log.1").stat().st_mode) == 0o600


def test_a_log_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    shorten(tmp_path / "postgres.log", max_bytes=1)
