"""Who may use what an HTTP server has: those with a role for it, and clients with a certificate."""

from collections.abc import Collection

from servicekit.http.authentication import Decision, Presented
from servicekit.identity.authenticator import Authenticator
from servicekit.identity.credentials import Credentials, Refusal, UnauthenticatedError
from servicekit.identity.roles import OPERATOR, VIEWER

READERS = frozenset({VIEWER, OPERATOR})


class Readers:
    """Decides by the identity that the credentials of a request prove."""

    def __init__(self, authenticator: Authenticator, roles: Collection[str] = READERS) -> None:
        """One of `roles` is enough."""
        self._authenticator = authenticator
        self._roles = frozenset(roles)

    async def decide(self, presented: Presented) -> Decision:
        """Return whether the request is answered.

        A token counts before the certificate of its connection. A certificate is enough: its authority is one for clients
        of this server.
        """
        if not presented.token and presented.has_certificate:
            return Decision.ALLOWED
        authorization = [f"Bearer {presented.token}"] if presented.token else []
        try:
            identity = await self._authenticator.authenticate(
                Credentials(authorization, is_private=presented.is_private)
            )
        except UnauthenticatedError as exc:
            unavailable = exc.refusal is Refusal.KEYS_UNAVAILABLE
            return Decision.UNAVAILABLE if unavailable else Decision.UNAUTHENTICATED
        return Decision.FORBIDDEN if identity.roles.isdisjoint(self._roles) else Decision.ALLOWED
