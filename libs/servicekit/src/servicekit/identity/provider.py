"""An OpenID Connect provider from its settings: its keys, and the roles of its groups."""

from collections.abc import Callable
from functools import partial

from servicekit.identity.discovery import DiscoveredKeys
from servicekit.identity.jwks import parse_jwks
from servicekit.identity.jwt import JwtRules, JwtVerifier
from servicekit.identity.key_sources import SOURCE, FileKeys, KeySource, UrlKeys
from servicekit.identity.roles import NO_ROLES, ROLES_BY_NAME, RoleMapping, parse_role_mapping
from servicekit.identity.settings import IdentitySettings, split
from servicekit.identity.settings_files import SettingsFiles


def open_provider(settings: IdentitySettings, files: SettingsFiles) -> JwtVerifier:
    """Return what verifies the provider's tokens. Raises SettingsError for a file that cannot be used."""
    rules = JwtRules(
        issuer=settings.oidc_issuer,
        audiences=split(settings.oidc_audience),
        algorithms=frozenset(split(settings.oidc_algorithms)),
        clock_skew=settings.oidc_clock_skew,
        name_claim=settings.oidc_name_claim,
        role_claim=settings.oidc_role_claim,
    )
    return JwtVerifier(rules, _keys(settings, files), _role_mapping(settings, files))


def _keys(settings: IdentitySettings, files: SettingsFiles) -> KeySource:
    path = settings.oidc_jwks_file
    if path is None:
        from servicekit.identity.jwks_fetch import fetch_bounded  # noqa: PLC0415 - loads the HTTP client

        url, refresh = settings.oidc_jwks_url, settings.oidc_jwks_refresh
        fetch = (
            partial(fetch_bounded, url)
            if url
            else DiscoveredKeys(settings.oidc_issuer, fetch_bounded, refresh=refresh)
        )
        # Not fetched here: a service starts also while the provider is away.
        url_keys = UrlKeys(fetch, refresh=refresh, metrics=files.metrics)
        files.keeping.append(url_keys.keep_current)
        return url_keys
    # As behind a URL the last good keys stay: they are public, and a rotation must not refuse anybody.
    return FileKeys(files.open("oidc_jwks_file", path, parse_jwks, unusable=None, source=SOURCE))


def _role_mapping(settings: IdentitySettings, files: SettingsFiles) -> Callable[[], RoleMapping]:
    path = settings.oidc_roles_file
    if path is None:
        return lambda: ROLES_BY_NAME
    file = files.open("oidc_roles_file", path, parse_role_mapping, unusable=NO_ROLES, source="roles")
    return lambda: file.value
