"""What a terminal shows, what a pipe gets, and what neither does."""

import io
import sys
from datetime import UTC, datetime, timedelta

import pytest
import typer

from awoooi.incident.v1 import incident_pb2
from flywheel.operator.moments import moment, span
from flywheel.operator.output.cells import duration, enum_name, line, lines
from flywheel.operator.output.printer import Format, Printer
from flywheel.operator.views.incident import INCIDENT


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def incident(**fields: object) -> incident_pb2.Incident:
    """An incident as a server sends it."""
    given = {"incident_id": "INC-20260507-0000A1", "severity": "SEVERITY_HIGH", "state": "STATE_OPEN"}
    return incident_pb2.Incident(**(given | fields))  # type: ignore[arg-type]


def on_terminal(monkeypatch: pytest.MonkeyPatch, item: incident_pb2.Incident, **variables: str) -> str:
    """What a terminal of 70 columns shows of a list."""
    screen = Screen()
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"COLUMNS": "70", "TERM": "xterm-256color"} | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", screen)
    Printer(Format.TABLE).items([item], INCIDENT, limit=0)
    return screen.getvalue()


def test_columns_are_aligned_and_a_pipe_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    items = [
        incident(title="api answers slowly " + "very " * 60),
        incident(severity="SEVERITY_CRITICAL", title="x"),
    ]
    Printer(Format.TABLE).items(items, INCIDENT, limit=0)
    heading, *rows = capsys.readouterr().out.splitlines()
    assert [row.index("OPEN") for row in rows] == [heading.index("STATE")] * 2
    assert rows[0].endswith("very very")
    assert not rows[1].endswith(" ")
    assert "\x1b" not in heading


def test_a_terminal_has_colours_and_lines_of_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = on_terminal(monkeypatch, incident(title="very " * 60))
    assert "INC-20260507-0000A1" in printed
    assert "\x1b[31mHIGH" in printed
    assert "…" in printed
    assert len(printed.splitlines()) == 2


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_without_colour_where_it_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    assert "\x1b[31m" not in on_terminal(monkeypatch, incident(title="x"), **variables)


def test_a_pipe_is_never_coloured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    Printer(Format.TABLE).item(incident(title="x"), INCIDENT)
    assert "\x1b" not in capsys.readouterr().out


def test_a_text_of_somebody_else_is_neither_obeyed_nor_markup(capsys: pytest.CaptureFixture[str]) -> None:
    title = "\x1b]0;gone\x07 [red]x[/] \x9b31m \u202eevil"
    Printer(Format.TABLE).item(incident(title=title, description=title + "\n\x1b[2J"), INCIDENT)
    printed = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & {*printed}
    assert "[red]x[/]" in printed


def test_a_value_of_a_newer_server_is_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    Printer(Format.TABLE).items([incident(state=99)], INCIDENT, limit=0)
    assert " 99\n" in capsys.readouterr().out
    assert enum_name(incident_pb2.Severity, "SEVERITY_", 0) == ""


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-3, "0s"),
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (119, "1m"),
        (7199, "119m"),
        (7200, "2h"),
        (200_000, "2d"),
    ],
)
def test_a_span_is_shown_in_its_largest_unit(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_moment_is_a_span_ago_or_a_time() -> None:
    now = datetime.now(UTC)
    assert timedelta(hours=2) <= now - moment("2h") + timedelta(seconds=5) <= timedelta(hours=2, seconds=10)
    assert moment("2026-05-07T10:30:00Z") == datetime(2026, 5, 7, 10, 30, tzinfo=UTC)
    assert moment("2026-05-07") == datetime(2026, 5, 7, tzinfo=UTC)
    assert moment("2026-05-07T10:30:00+02:00") == datetime(2026, 5, 7, 8, 30, tzinfo=UTC)
    assert span("2w") == timedelta(weeks=2)
    for wrong in ("", "2", "h", "2 hours", "-2h", "999999w", "2026-13-01"):
        with pytest.raises(typer.BadParameter):
            moment(wrong)


def test_lines_are_kept_where_they_are_wanted() -> None:
    assert line(" one\n two\t three ") == "one two three"
    assert lines("one\r\n\ttwo\r") == "one\n\ttwo\N{REPLACEMENT CHARACTER}"
