"""The attacks, by name: several of one number are of one kind."""

from collections.abc import Callable, Coroutine, Mapping

from hostile.attacks import calls, data, frames, http
from hostile.target import Target

Attack = Callable[[Target], Coroutine[None, None, str]]

# Carried out by the receiver of webhooks.
INTERIM_ANSWERS = "9 endless interim answers"

ATTACKS: Mapping[str, Attack] = {
    "1 bad enums": calls.bad_enums,
    "2 calls without request": frames.without_requests,
    "3 unread pages": frames.unread_pages,
    "4 large pages": calls.large_pages,
    "5 silent HTTP": frames.silent_http,
    "6 silent gRPC": frames.silent_grpc,
    "7 rapid resets": frames.rapid_resets,
    "7 CONTINUATION flood": frames.continuations,
    "7 half messages": frames.half_messages,
    "8 heavy searches": calls.heavy_searches,
    "11 foreign host": http.foreign_host,
    "12 large headers": http.large_headers,
    "13 unknown ids": calls.unknown_ids,
    # Last: what it leaves in the database stays.
    "10 many stuck": data.many_stuck,
}
