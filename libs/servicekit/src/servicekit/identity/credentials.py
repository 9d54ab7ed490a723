"""What a call brings to prove its caller, and why that is refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of one call, as its transport gives them."""

    # The values of the metadata key `authorization`, or of the HTTP header.
    authorization: Sequence[str] = ()
    # The service that the client's certificate names, such as `service:approval`; empty without one.
    service: str = ""
    # Whether what is sent cannot be read on the way: TLS, or the same machine.
    is_private: bool = False


class Refusal(StrEnum):
    """Why credentials are refused: labels of the series, and of the log. Callers see less."""

    MISSING = "missing"
    MALFORMED = "malformed"
    PLAINTEXT = "plaintext"
    NOT_ACCEPTED = "not_accepted"
    UNKNOWN_TOKEN = "unknown_token"  # noqa: S105 - a label
    REVOKED = "revoked"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    ALGORITHM = "algorithm"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    CLAIMS = "claims"
    NAME = "name"
    KEYS_UNAVAILABLE = "keys_unavailable"
    CERTIFICATE = "certificate"


class UnauthenticatedError(Exception):
    """The credentials of a call do not prove who its caller is."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal
