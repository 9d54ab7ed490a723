"""Puts authentication together from its settings."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from prometheus_client import CollectorRegistry

from servicekit.identity.authenticator import Authenticator
from servicekit.identity.discovery import DiscoveredKeys
from servicekit.identity.jwks import parse_jwks
from servicekit.identity.jwt import JwtRules, JwtVerifier
from servicekit.identity.key_sources import SOURCE, FileKeys, KeySource, UrlKeys
from servicekit.identity.metrics import SourceMetrics
from servicekit.identity.roles import NO_ROLES, ROLES_BY_NAME, RoleMapping, parse_role_mapping
from servicekit.identity.settings import IdentitySettings, split
from servicekit.identity.tokens import Tokens, TokenVerifier, parse_tokens
from servicekit.identity.watched_file import FileProblemError, WatchedFile
from servicekit.process.settings import SettingsError

T = TypeVar("T")


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
    opening = _Opening(settings, sources)
    tokens = opening.tokens()
    jwts = opening.jwts()
    return Authentication(Authenticator(tokens=tokens, jwts=jwts), opening.keeping, sources)


class _Opening:
    def __init__(self, settings: IdentitySettings, metrics: SourceMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.keeping: list[Callable[[], Awaitable[None]]] = []

    def tokens(self) -> TokenVerifier | None:
        path = self._settings.tokens_file
        if path is None:
            return None
        file = WatchedFile[Tokens](path, parse_tokens, unusable={}, source="tokens", metrics=self._metrics)
        self._load(file, "tokens_file", path)
        return TokenVerifier(file)

    def jwts(self) -> JwtVerifier | None:
        settings = self._settings
        if not settings.oidc_issuer:
            return None
        rules = JwtRules(
            issuer=settings.oidc_issuer,
            audiences=split(settings.oidc_audience),
            algorithms=frozenset(split(settings.oidc_algorithms)),
            clock_skew=settings.oidc_clock_skew,
            name_claim=settings.oidc_name_claim,
            role_claim=settings.oidc_role_claim,
        )
        keys = self._keys()
        mapping = self._role_mapping()
        if mapping is None:
            return JwtVerifier(rules, keys, lambda: ROLES_BY_NAME)
        return JwtVerifier(rules, keys, lambda: mapping.value)

    def _keys(self) -> KeySource:
        path = self._settings.oidc_jwks_file
        if path is None:
            from servicekit.identity.jwks_fetch import fetch_bounded  # noqa: PLC0415 - loads the HTTP client

            url, refresh = self._settings.oidc_jwks_url, self._settings.oidc_jwks_refresh
            fetch = (
                partial(fetch_bounded, url)
                if url
                else DiscoveredKeys(self._settings.oidc_issuer, fetch_bounded, refresh=refresh)
            )
            # Not fetched here: a service starts also while the provider is away.
            url_keys = UrlKeys(fetch, refresh=refresh, metrics=self._metrics)
            self.keeping.append(url_keys.keep_current)
            return url_keys
        # As behind a URL the last good keys stay: they are public, and a rotation must not refuse anybody.
        file = WatchedFile(path, parse_jwks, unusable=None, source=SOURCE, metrics=self._metrics)
        self._load(file, "oidc_jwks_file", path)
        return FileKeys(file)

    def _role_mapping(self) -> WatchedFile[RoleMapping] | None:
        path = self._settings.oidc_roles_file
        if path is None:
            return None
        file = WatchedFile(path, parse_role_mapping, unusable=NO_ROLES, source="roles", metrics=self._metrics)
        self._load(file, "oidc_roles_file", path)
        return file

    def _load(self, file: WatchedFile[T], field: str, path: Path) -> None:
        try:
            file.load()
        except FileProblemError as exc:
            prefix = self._settings.model_config.get("env_prefix", "")
            raise SettingsError(f"{prefix}{field}".upper() + f": {path}: {exc}") from None
        self.keeping.append(file.keep_current)


async def _together(works: Sequence[Callable[[], Awaitable[None]]]) -> None:
    await asyncio.gather(*(work() for work in works))
