"""Authentication: from the credentials of a call to the identity of its caller."""

from typing import Final, Protocol

from servicekit.identity.credentials import Credentials, Refusal, UnauthenticatedError
from servicekit.identity.identity import Identity
from servicekit.identity.tokens import PREFIX, TokenVerifier

_SCHEME: Final = "bearer"
# Larger ones carry the groups of a whole company: they would be read with every call.
_MAX_CHARACTERS = 8 << 10


class JwtVerification(Protocol):
    """Verifies JSON Web Tokens. Its implementation loads a cryptographic library, for those alone who use it."""

    async def verify(self, token: str) -> Identity:
        """Return the identity of a token. Raises UnauthenticatedError."""


class Authenticator:
    """Establishes who is calling; every call must prove it, from wherever it comes."""

    def __init__(self, *, tokens: TokenVerifier | None = None, jwts: JwtVerification | None = None) -> None:
        """Each kind of bearer token is taken with its verifier; certificates are the transport's."""
        self._tokens = tokens
        self._jwts = jwts

    async def authenticate(self, credentials: Credentials) -> Identity:
        """Return the identity of a caller. Raises UnauthenticatedError.

        A bearer token counts before the certificate of the connection: a broken one is refused also on a good connection.
        """
        if credentials.authorization:
            if not credentials.is_private:
                raise UnauthenticatedError(Refusal.PLAINTEXT)
            return await self._bearer(_token(credentials))
        if credentials.service:
            return Identity(credentials.service, frozenset({credentials.service}), "mtls")
        raise UnauthenticatedError(Refusal.MISSING)

    async def _bearer(self, token: str) -> Identity:
        if token.startswith(PREFIX):
            if self._tokens is None:
                raise UnauthenticatedError(Refusal.NOT_ACCEPTED)
            return self._tokens.verify(token)
        if self._jwts is None:
            raise UnauthenticatedError(Refusal.NOT_ACCEPTED)
        return await self._jwts.verify(token)


def _token(credentials: Credentials) -> str:
    if len(credentials.authorization) > 1 or len(credentials.authorization[0]) > _MAX_CHARACTERS:
        raise UnauthenticatedError(Refusal.MALFORMED)
    scheme, _, token = credentials.authorization[0].strip().partition(" ")
    token = token.strip()
    if scheme.lower() != _SCHEME or not token:
        raise UnauthenticatedError(Refusal.MALFORMED)
    return token
