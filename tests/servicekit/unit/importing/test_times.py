"""The times of a line: those of RFC 3339, and nothing else."""

from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from servicekit.importing.fields import Time

TIMES = TypeAdapter[datetime](Time)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2025-05-07T10:00:00Z", datetime(2025, 5, 7, 10, tzinfo=UTC)),
        ("2025-05-07t10:00:00.123456789z", datetime(2025, 5, 7, 10, 0, 0, 123456, tzinfo=UTC)),
        ("2025-05-07T10:00:00-00:00", datetime(2025, 5, 7, 10, tzinfo=UTC)),
        ("2025-05-07T10:00:00+23:59", datetime(2025, 5, 6, 10, 1, tzinfo=UTC)),
        # Leap seconds: the end of a month in UTC.
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2017-01-01T05:29:60.5+05:30", datetime(2017, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("1990-12-31T15:59:60-08:00", datetime(1991, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_of_rfc_3339_are_read(text: str, time: datetime) -> None:
    assert TIMES.validate_python(text) == time


@pytest.mark.parametrize(
    "text",
    [
        "2025-05-07T10:00:00",
        "2025-05-07 10:00:00Z",
        "2025-05-07T10:00:00+05:99",
        "2025-05-07T10:00:00+05:60",
        "2025-05-07T10:00:00-24:00",
        "2025-05-07T10:00:00+0530",
        "2025-05-07T24:00:00Z",
        "2025-05-07T10:60:00Z",
        "2025-05-07T10:00:61Z",
        "2025-05-07T10:00:60Z",
        "2016-12-31T23:59:60+01:00",
        "2025-02-29T10:00:00Z",
        "9999-12-31T23:59:60Z",
        "1969-12-31T23:59:59Z",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TIMES.validate_python(text)
