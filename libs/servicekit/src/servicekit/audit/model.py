"""What an audit record says."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

# How a caller without an RPC is known: work of the service itself.
SYSTEM = "system"


class Outcome(StrEnum):
    """What a call did."""

    # It changed something; the record is part of that transaction.
    CHANGED = "CHANGED"
    # It was granted and there was nothing to change: a repeated call, or one that only validates.
    UNCHANGED = "UNCHANGED"
    REFUSED = "REFUSED"
    # It ended without an answer. It may have changed something: then there is a CHANGED record too.
    FAILED = "FAILED"


@dataclass(slots=True)
class Call:
    """A call of a mutating method, or a piece of background work, by which records are made."""

    # `package.Service/Method`, or `background/…`.
    operation: str
    actor: str
    method: str
    # sha256 of the request in hexadecimal digits; empty without one.
    digest: str = ""
    # The ids in the request, for when nothing is changed.
    targets: Sequence[str] = ()
    # A record of a change of this call is committed.
    recorded: bool = False


class Entry(NamedTuple):
    """A record as it is handed to the database, which adds the time, its place in a chain and the hash."""

    actor: str
    method: str
    operation: str
    targets: Sequence[str]
    outcome: Outcome
    code: str
    reason: str
    digest: str
    # How many calls it stands for.
    calls: int = 1


def changed(call: Call, targets: Sequence[str]) -> Entry:
    """Return the entry of a change."""
    return Entry(call.actor, call.method, call.operation, targets, Outcome.CHANGED, "OK", "", call.digest)


def background(operation: str, actor: str) -> Call:
    """Return the call of work that no RPC requested."""
    return Call(f"background/{operation}", actor, SYSTEM)


def digest_of(request: bytes) -> str:
    """Return the digest of a serialized request."""
    return hashlib.sha256(request).hexdigest()
