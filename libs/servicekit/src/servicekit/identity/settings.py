"""How callers prove who they are: the settings of tokens and of an identity provider."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from servicekit.identity.algorithms import ALGORITHMS
from servicekit.identity.trusted_urls import is_discoverable, is_trusted_url
from servicekit.process.settings import Duration, Settings

_LISTS = "expected a list with commas of: "


class IdentitySettings(Settings):
    """Bearer tokens of our own, and JSON Web Tokens of an OpenID Connect provider; both may be used at once."""

    # The tokens that `flywheel token` writes. Set: every call needs credentials.
    tokens_file: Path | None = None
    # The `aud` that a token must be for; several with commas, of which one has to be among the token's.
    oidc_audience: str = ""
    # The provider's keys: fetched and kept current, or read from a file that is read again when it changes. Without both, the
    # URL is found by the issuer's discovery document.
    oidc_jwks_url: str = ""
    oidc_jwks_file: Path | None = None
    # How often the URL is fetched; an unknown key is looked for at once.
    oidc_jwks_refresh: Duration = Field(
        default=timedelta(minutes=10), ge=timedelta(seconds=10), le=timedelta(days=1)
    )
    # The algorithms that signatures may have.
    oidc_algorithms: str = "RS256,PS256,ES256,EdDSA"
    # How much the clocks may differ.
    oidc_clock_skew: Duration = Field(default=timedelta(seconds=30), le=timedelta(minutes=5))
    # The claim that is the caller's name. Not one that its owner can change.
    oidc_name_claim: str = Field(default="sub", min_length=1)
    # The claim that roles come from, dots lead into objects: `groups`, `realm_access.roles`.
    oidc_role_claim: str = Field(default="roles", min_length=1)
    # Which of its values give which roles; without the file, the values are the roles' own names.
    oidc_roles_file: Path | None = None
    # The `iss` of the provider's tokens. Set: every call needs credentials.
    oidc_issuer: str = Field(default="", validate_default=True)

    @property
    def takes_tokens(self) -> bool:
        """Whether a bearer token of some kind is taken, so that every call needs credentials."""
        return self.tokens_file is not None or self.oidc_issuer != ""

    @field_validator("oidc_algorithms")
    @classmethod
    def _check_algorithms(cls, value: str) -> str:
        names = split(value)
        if not names or not ALGORITHMS.issuperset(names):
            raise ValueError(_LISTS + ", ".join(sorted(ALGORITHMS)))
        return value

    @field_validator("oidc_jwks_url")
    @classmethod
    def _check_jwks_url(cls, value: str) -> str:
        if value and not is_trusted_url(value):
            # What is fetched without TLS may be anybody's keys.
            raise ValueError("expected an https:// URL, or http:// of this machine")
        return value

    # The last of its fields: the others are known here.
    @field_validator("oidc_issuer")
    @classmethod
    def _check_issuer(cls, value: str, info: ValidationInfo) -> str:
        others = info.data
        if not value:
            if any(
                others.get(f"oidc_{name}") for name in ("audience", "jwks_url", "jwks_file", "roles_file")
            ):
                raise ValueError("must be set, as other settings of the provider are")
        elif not split(others.get("oidc_audience", "")):
            raise ValueError("needs an audience, too: a token for another service is none for this one")
        elif others.get("oidc_jwks_url") and others.get("oidc_jwks_file"):
            raise ValueError("needs the keys' URL or file, and not both")
        elif (
            not others.get("oidc_jwks_url")
            and not others.get("oidc_jwks_file")
            and not is_discoverable(value)
        ):
            raise ValueError(
                "needs the keys' URL or file, unless it is an https:// URL that they are discovered by"
            )
        return value


def split(value: str) -> list[str]:
    """Return the elements of a list with commas."""
    return [element.strip() for element in value.split(",") if element.strip()]
