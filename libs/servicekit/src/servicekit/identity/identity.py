"""The identity of a caller, as a call is authorised and recorded by it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

# How it was established. `loopback` is the caller's own word, on a server without authentication.
Method: TypeAlias = Literal["loopback", "mtls", "jwt", "token"]


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose credentials were verified."""

    # Canonical: two spellings of one identity are equal here.
    name: str
    roles: frozenset[str]
    method: Method
