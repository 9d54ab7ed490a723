"""The identity of a caller, as a call is authorised and recorded by it."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

# How it was established. `loopback` is the caller's own word, on a server without authentication.
Method: TypeAlias = Literal["loopback", "mtls", "jwt", "token"]

# The methods of people and jobs, whose calls are limited one by one. A service works for many of them, who were limited where
# they called; and a name without credentials is the caller's own word.
PERSONAL: Final[frozenset[Method]] = frozenset({"jwt", "token"})


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose credentials were verified."""

    # Canonical: two spellings of one identity are equal here.
    name: str
    roles: frozenset[str]
    method: Method
