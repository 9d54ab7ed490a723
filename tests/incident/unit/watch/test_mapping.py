"""Resume tokens: they round-trip and stay within their limit."""

from datetime import UTC, datetime

import pytest

from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.rpc.cursors import filter_bytes
from servicekit.rpc.page_tokens import InvalidPageTokenError, PageTokens
from servicekit.watch.epoch import FIRST_EPOCH
from servicekit.watch.model import Position, ResumePoint, Witness
from servicekit.watch.snapshot import Snapshot
from servicekit.watch.tokens import make_token, resume_point

LONGEST = 4096
# The longest ids.
SEEN = Witness("x" * 128, "INC-20260507-99ADF2B41C07", datetime(2026, 5, 7, 12, 0, 0, 123456, tzinfo=UTC))


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
@pytest.mark.parametrize("epoch", [FIRST_EPOCH, "0123456789abcdef"])
@pytest.mark.parametrize("witness", [None, SEEN], ids=["no event", "an event"])
def test_a_resume_token_round_trips(position: Position, epoch: str, witness: Witness | None) -> None:
    request = pb.WatchRequest(fingerprint="disk")
    request.resume_token = make_token(request, tokens())(ResumePoint(position, epoch, witness))
    assert resume_point(request, tokens()) == ResumePoint(position, epoch, witness)


def test_a_resume_token_of_a_version_without_epochs_is_read() -> None:
    request = pb.WatchRequest(fingerprint="disk")
    bound = filter_bytes(request, "include_existing", "resume_token")
    request.resume_token = tokens().make(bound, ["700:0:", "700:0:", 0])
    assert resume_point(request, tokens()) == ResumePoint(Position.at(Snapshot(700, 700)), FIRST_EPOCH, None)


def test_a_version_without_epochs_takes_a_resume_token_for_a_foreign_one() -> None:
    request = pb.WatchRequest(fingerprint="disk")
    given = make_token(request, tokens())(ResumePoint(Position.at(Snapshot(700, 700)), FIRST_EPOCH, None))
    with pytest.raises(InvalidPageTokenError):
        tokens().read(filter_bytes(request, "include_existing", "resume_token"), given)


def test_a_resume_token_of_thousands_of_transactions_is_shortened_to_an_older_position() -> None:
    crowded = Snapshot(1_000_000, 1_009_000, tuple(range(1_000_000, 1_009_000, 2)))
    request = pb.WatchRequest()
    request.resume_token = make_token(request, tokens())(
        ResumePoint(Position(crowded, crowded, 42), "0123456789abcdef", SEEN)
    )
    assert len(request.resume_token) <= LONGEST
    read = resume_point(request, tokens())
    assert read is not None
    # Everything below xmin is visible in it; the other changes of the original snapshot are delivered twice.
    assert read.position.since == read.position.until == Snapshot(1_000_000, 1_000_000)


def test_the_longest_resume_token_is_within_the_limit() -> None:
    lengths = []
    for number in range(0, 2_000, 10):
        crowded = Snapshot(
            1 << 50, (1 << 50) + 900_000, tuple((1 << 50) + 400_000 + n for n in range(number))
        )
        point = ResumePoint(Position(crowded, crowded, 1 << 50), "0123456789abcdef", SEEN)
        lengths.append(len(make_token(pb.WatchRequest(), tokens())(point)))
    assert max(lengths) <= LONGEST


def test_without_a_resume_token_there_is_no_position() -> None:
    assert resume_point(pb.WatchRequest(), tokens()) is None
