"""What a response means."""

from datetime import timedelta
from email.utils import formatdate

import pytest

from servicekit.webhooks.response import Response, Verdict, parse_retry_after

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        pytest.param((200, 201, 202, 204, 299), Verdict.ACCEPTED, id="2xx"),
        pytest.param((400, 401, 404, 405, 409, 410, 413, 422, 451, 499), Verdict.REJECTED, id="4xx"),
        pytest.param((408, 429), Verdict.RETRY, id="4xx that ask for a retry"),
        pytest.param((500, 501, 502, 503, 504, 599), Verdict.RETRY, id="5xx"),
        pytest.param((300, 301, 302, 303, 304, 307, 308), Verdict.RETRY, id="redirects"),
        pytest.param((101,), Verdict.RETRY, id="a protocol that was not requested"),
        pytest.param((600, 999), Verdict.RETRY, id="classes that do not exist"),
    ],
)
def test_the_status_decides(statuses: tuple[int, ...], verdict: Verdict) -> None:
    assert {Response(status).verdict for status in statuses} == {verdict}


@pytest.mark.parametrize(
    ("status", "text"),
    [(204, "answered 204"), (503, "answered 503"), (302, "answered 302; redirects are not followed")],
)
def test_a_response_describes_itself_by_its_status(status: int, text: str) -> None:
    assert str(Response(status)) == text


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param("", 0, id="absent"),
        pytest.param("0", 0, id="at once"),
        pytest.param("17", 17, id="seconds"),
        pytest.param("3600", 3600, id="an hour"),
        pytest.param("3601", 3600, id="more than an hour"),
        pytest.param("9" * 5000, 3600, id="a number beyond all bounds"),
        pytest.param("-5", 0, id="negative"),
        pytest.param("1.5", 0, id="a fraction"),
        pytest.param("¹²", 0, id="digits that are none"),
        pytest.param(formatdate(NOW + 90, usegmt=True), 90, id="a date"),
        pytest.param(formatdate(NOW - 90, usegmt=True), 0, id="a date in the past"),
        pytest.param(formatdate(NOW + 10**6, usegmt=True), 3600, id="a date too far away"),
        pytest.param("Wed, 99 Foo 2026 99:99:99 GMT", 0, id="a date that is none"),
        pytest.param("soon", 0, id="a word"),
    ],
)
def test_retry_after_is_read_within_bounds(value: str, seconds: float) -> None:
    assert parse_retry_after(value, now=NOW) == timedelta(seconds=seconds)
