"""Resume tokens: a position, signed and bound to the watcher's filter.

The requests of Watch RPCs have the fields `include_existing` and `resume_token`; all others are the filter.
"""

from datetime import datetime

from google.protobuf.message import Message

from servicekit.rpc.cursors import filter_bytes
from servicekit.rpc.interceptors.validation import invalid_argument
from servicekit.rpc.page_tokens import InvalidPageTokenError, PageTokens
from servicekit.rpc.status_details import FieldViolation
from servicekit.watch.epoch import FIRST_EPOCH
from servicekit.watch.model import MakeToken, Position, ResumePoint, Witness
from servicekit.watch.snapshot import Snapshot

# Of the one store that there is.
_read_watermark = Snapshot.read
# Tells tokens apart that hold other things.
_FORM = b"epoch and witness"


def resume_point(request: Message, tokens: PageTokens) -> ResumePoint | None:
    """Return what is in the resume token; None for a new stream. Raises the error that names the field."""
    token: str = request.resume_token  # type: ignore[attr-defined]  # see above
    if not token:
        return None
    bound = _bound(request)
    try:
        try:
            since, until, sequence, epoch, *witness = tokens.read(bound + _FORM, token)
        except InvalidPageTokenError:
            # Of versions without epochs.
            since, until, sequence = tokens.read(bound, token)
            epoch, witness = FIRST_EPOCH, []
    except InvalidPageTokenError:
        raise invalid_argument(
            FieldViolation("resume_token", "was not given by this service for this request")
        ) from None
    return ResumePoint(
        Position(_read_watermark(str(since)), _read_watermark(str(until)), int(sequence)),
        str(epoch),
        _read_witness(*map(str, witness)) if witness else None,
    )


def make_token(request: Message, tokens: PageTokens) -> MakeToken:
    """Return the function that writes the resume tokens of this stream."""
    # Versions without epochs do not know this form: they refuse it as they do a foreign token.
    bound = _bound(request) + _FORM

    def make(point: ResumePoint) -> str:
        position, witness = point.position, point.witness
        seen = () if witness is None else (witness.key, witness.record_id, witness.time.isoformat())
        return tokens.make(
            bound,
            [
                position.since.write(),
                position.until.write(),
                position.sequence,
                point.epoch,
                *seen,
            ],
        )

    return make


def _read_witness(key: str, record_id: str, time: str) -> Witness:
    return Witness(key, record_id, datetime.fromisoformat(time))


def _bound(request: Message) -> bytes:
    """Return what a resume token is bound to: the filter."""
    return filter_bytes(request, "include_existing", "resume_token")
