from datetime import UTC, datetime

import pytest
from google.protobuf.descriptor import EnumDescriptor

from awoooi.approval.v1.approval_pb2 import Risk
from awoooi.flywheel.v1.flywheel_stats_pb2 import ExecutionOutcome, StuckReason
from awoooi.incident.v1.incident_pb2 import Severity, SideEffect
from metrics_gateway.page import formatting
from metrics_gateway.page.formatting import clock, count, counted, duration, failure, line, name_of
from metrics_gateway.sources.reading import Reason


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_600, "1 h"),
        (3_660, "1 h 1 min"),
        (36_060, "10 h"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
        (950_400, "11 d"),
        (1e15, "11,574,074,074 d"),
    ],
)
def test_a_duration_has_one_or_two_units(seconds: float, text: str) -> None:
    assert duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == text


def test_a_time_has_its_date_only_on_another_day() -> None:
    now = datetime(2026, 5, 7, 0, 5, tzinfo=UTC)
    assert clock(datetime(2026, 5, 7, 0, 1, 2, tzinfo=UTC), now) == "00:01:02 UTC"
    assert clock(datetime(2026, 5, 6, 23, 59, 2, tzinfo=UTC), now) == "2026-05-06 23:59:02 UTC"


def test_numbers_have_thousands_separators() -> None:
    assert (count(1_204), counted(1, "day", "days"), counted(0, "day", "days")) == (
        "1,204",
        "1 day",
        "0 days",
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as it is", "as it is"),
        (" a\n\tb  c ", "a b c"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 199 + "…"),
        ("", ""),
    ],
    ids=["plain", "on several lines", "just short enough", "too long", "empty"],
)
def test_a_callers_text_is_one_short_line(text: str, shown: str) -> None:
    assert line(text) == shown


@pytest.mark.parametrize(
    ("names", "enum"),
    [
        (formatting.SEVERITIES, Severity.DESCRIPTOR),
        (formatting.STUCK_REASONS, StuckReason.DESCRIPTOR),
        (formatting.RISKS, Risk.DESCRIPTOR),
        (formatting.OUTCOMES, ExecutionOutcome.DESCRIPTOR),
        (formatting.EFFECTS, SideEffect.Effect.DESCRIPTOR),
    ],
    ids=lambda value: value.name if isinstance(value, EnumDescriptor) else "",
)
def test_every_enum_value_has_a_name(names: dict[int, str], enum: EnumDescriptor) -> None:
    assert set(names) == {value.number for value in enum.values} - {0}
    assert len(set(names.values())) == len(names)
    assert name_of(names, 77) == "other"


@pytest.mark.parametrize("reason", Reason)
def test_every_failure_reason_has_a_text(reason: Reason) -> None:
    assert failure(reason)
