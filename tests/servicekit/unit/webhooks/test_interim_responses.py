"""Interim responses are counted before they are parsed, however the bytes arrive."""

import pytest

from servicekit.webhooks.errors import ConnectionFailedError
from servicekit.webhooks.network import MAX_INTERIM_RESPONSES, InterimResponses
from servicekit.webhooks.response import Response
from tests.receiver import raw
from tests.servicekit.unit.webhooks.sending import outcome_of

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
FINAL = b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n"
# A body that looks like interim responses.
BODY = CONTINUE * 2


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("interim", [0, 1, 3])
def test_interim_responses_are_counted_and_a_body_is_not(interim: int, step: int) -> None:
    content = (CONTINUE + HINTS) * interim + FINAL + BODY
    counted = InterimResponses()
    counts = [counted.add(content[begin : begin + step]) for begin in range(0, len(content), step)]
    assert counts[-1] == 2 * interim


async def test_as_many_as_are_allowed_are_taken() -> None:
    response = await outcome_of(raw(CONTINUE * MAX_INTERIM_RESPONSES + b"HTTP/1.1 204 No Content\r\n\r\n"))
    assert isinstance(response, Response)
    assert response.status == 204


async def test_one_more_ends_the_connection_although_the_final_one_follows() -> None:
    response = await outcome_of(
        raw(CONTINUE * (MAX_INTERIM_RESPONSES + 1) + b"HTTP/1.1 204 No Content\r\n\r\n")
    )
    assert isinstance(response, ConnectionFailedError)
