"""Puts authentication together from its settings."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from prometheus_client import CollectorRegistry

from servicekit.identity.authenticator import Authenticator
from servicekit.identity.metrics import SourceMetrics
from servicekit.identity.settings import IdentitySettings
from servicekit.identity.settings_files import SettingsFiles
from servicekit.identity.tokens import TokenVerifier, parse_tokens


class Authentication:
    """The authenticator of a service, and the work that keeps it current."""

    def __init__(
        self,
        authenticator: Authenticator,
        keeping: Sequence[Callable[[], Awaitable[None]]],
        sources: SourceMetrics,
    ) -> None:
        self.authenticator = authenticator
        self._keeping = keeping
        self._sources = sources

    @property
    def unusable_sources(self) -> Collection[str]:
        """What identities are verified by and cannot be used now, by its name in the series; changes with it."""
        return self._sources.unusable

    def background(self) -> Mapping[str, Awaitable[None]]:
        """Return the work that runs as long as the process: files and keys are read again."""
        return {"identities": _together(self._keeping)} if self._keeping else {}


def open_authentication(
    settings: IdentitySettings, registry: CollectorRegistry, *, certificates: bool = False
) -> Authentication | None:
    """Return the authentication that the settings ask for; None when they ask for none.

    `certificates`: clients may prove their identity by a certificate. Raises SettingsError for a file that cannot be used.
    """
    if not settings.takes_tokens and not certificates:
        return None
    sources = SourceMetrics(registry)
    files = SettingsFiles(settings, sources)
    tokens = jwts = None
    if settings.tokens_file is not None:
        tokens = TokenVerifier(
            files.open("tokens_file", settings.tokens_file, parse_tokens, unusable={}, source="tokens")
        )
    if settings.oidc_issuer:
        from servicekit.identity.provider import open_provider  # noqa: PLC0415 - loads a cryptographic library

        jwts = open_provider(settings, files)
    return Authentication(Authenticator(tokens=tokens, jwts=jwts), files.keeping, sources)


async def _together(works: Sequence[Callable[[], Awaitable[None]]]) -> None:
    await asyncio.gather(*(work() for work in works))
