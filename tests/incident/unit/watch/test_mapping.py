"""Resume tokens: they round-trip and stay within their limit."""

import pytest

from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.watch.mapping import make_token, resume_position
from incident.watch.model import Position, Snapshot
from servicekit.rpc.page_tokens import PageTokens

LONGEST = 4096


def tokens() -> PageTokens:
    made = PageTokens()
    made.key = b"k" * 32
    return made


@pytest.mark.parametrize(
    "position",
    [
        pytest.param(Position.at(Snapshot(700, 700)), id="between batches"),
        pytest.param(Position(Snapshot(700, 700), Snapshot(700, 705, (700, 703)), 42), id="in a batch"),
        pytest.param(
            Position.at(Snapshot(1 << 40, (1 << 40) + 300, tuple((1 << 40) + n for n in range(0, 300, 2)))),
            id="many transactions",
        ),
    ],
)
def test_a_resume_token_round_trips(position: Position) -> None:
    request = pb.WatchRequest(fingerprint="disk")
    request.resume_token = make_token(request, tokens())(position)
    assert resume_position(request, tokens()) == position


def test_a_resume_token_of_thousands_of_transactions_is_shortened_to_an_older_position() -> None:
    crowded = Snapshot(1_000_000, 1_009_000, tuple(range(1_000_000, 1_009_000, 2)))
    request = pb.WatchRequest()
    request.resume_token = make_token(request, tokens())(Position(crowded, crowded, 42))
    assert len(request.resume_token) <= LONGEST
    read = resume_position(request, tokens())
    assert read is not None
    # Everything below xmin is visible in it; the other changes of the original snapshot are delivered twice.
    assert read.since == read.until == Snapshot(1_000_000, 1_000_000)


def test_the_longest_resume_token_is_within_the_limit() -> None:
    lengths = []
    for number in range(0, 2_000, 10):
        crowded = Snapshot(
            1 << 50, (1 << 50) + 900_000, tuple((1 << 50) + 400_000 + n for n in range(number))
        )
        lengths.append(len(make_token(pb.WatchRequest(), tokens())(Position(crowded, crowded, 1 << 50))))
    assert max(lengths) <= LONGEST


def test_without_a_resume_token_there_is_no_position() -> None:
    assert resume_position(pb.WatchRequest(), tokens()) is None
