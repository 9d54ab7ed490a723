"""The settings of authentication: which go together, and what a wrong one says."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic_settings import SettingsConfigDict

from servicekit.identity.authentication import open_authentication
from servicekit.identity.settings import IdentitySettings
from servicekit.process.settings import SettingsError
from tests.credentials import TokenFile, jwk, jwks, rsa_key

OIDC = {
    "OIDC_ISSUER": "https://login.example",
    "OIDC_AUDIENCE": "a, b",
    "OIDC_JWKS_URL": "https://login.example/k",
}


class Sample(IdentitySettings):
    model_config = SettingsConfigDict(env_prefix="SAMPLE_")


def read(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> Sample:
    for name, value in variables.items():
        monkeypatch.setenv(f"SAMPLE_{name}", value)
    return Sample.from_environment()


def test_without_any_nothing_is_authenticated(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, {})
    assert open_authentication(settings, CollectorRegistry()) is None
    assert open_authentication(settings, CollectorRegistry(), certificates=True) is not None


@pytest.mark.parametrize(
    "variables",
    [
        OIDC,
        {**OIDC, "OIDC_JWKS_URL": "http://127.0.0.1:8080/k"},
        {**OIDC, "OIDC_ALGORITHMS": "ES256"},
        {**OIDC, "OIDC_ISSUER": "of no form"},
        # The keys are discovered.
        {**OIDC, "OIDC_JWKS_URL": ""},
        {**OIDC, "OIDC_JWKS_URL": "", "OIDC_ISSUER": "http://127.0.0.1:8080/realm/"},
    ],
)
def test_a_provider_is_complete(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    assert open_authentication(read(monkeypatch, variables), CollectorRegistry()) is not None


@pytest.mark.parametrize(
    ("changed", "variable"),
    [
        ({"OIDC_AUDIENCE": ""}, "SAMPLE_OIDC_ISSUER"),
        ({"OIDC_JWKS_URL": "", "OIDC_ISSUER": "of no form"}, "SAMPLE_OIDC_ISSUER"),
        ({"OIDC_JWKS_URL": "", "OIDC_ISSUER": "http://login.example"}, "SAMPLE_OIDC_ISSUER"),
        ({"OIDC_JWKS_URL": "", "OIDC_ISSUER": "https://u:hunter2@login.example"}, "SAMPLE_OIDC_ISSUER"),
        ({"OIDC_JWKS_URL": "", "OIDC_ISSUER": "https://login.example/?realm=a"}, "SAMPLE_OIDC_ISSUER"),
        ({"OIDC_JWKS_FILE": "/keys"}, "SAMPLE_OIDC_ISSUER"),
        ({"OIDC_ISSUER": ""}, "SAMPLE_OIDC_ISSUER"),
        ({"OIDC_ALGORITHMS": "HS256"}, "SAMPLE_OIDC_ALGORITHMS"),
        ({"OIDC_ALGORITHMS": "RS256,none"}, "SAMPLE_OIDC_ALGORITHMS"),
        ({"OIDC_ALGORITHMS": ""}, "SAMPLE_OIDC_ALGORITHMS"),
        ({"OIDC_JWKS_URL": "http://login.example/k"}, "SAMPLE_OIDC_JWKS_URL"),
        ({"OIDC_JWKS_URL": "https://user:hunter2@login.example/k"}, "SAMPLE_OIDC_JWKS_URL"),
        ({"OIDC_JWKS_URL": "file:///keys"}, "SAMPLE_OIDC_JWKS_URL"),
        ({"OIDC_JWKS_URL": "https://"}, "SAMPLE_OIDC_JWKS_URL"),
        ({"OIDC_CLOCK_SKEW": "1h"}, "SAMPLE_OIDC_CLOCK_SKEW"),
        ({"OIDC_JWKS_REFRESH": "1s"}, "SAMPLE_OIDC_JWKS_REFRESH"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_named_and_never_quoted(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], variable: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(monkeypatch, OIDC | changed)
    assert f"{variable}: " in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["TOKENS_FILE", "OIDC_JWKS_FILE", "OIDC_ROLES_FILE"])
def test_a_file_that_cannot_be_used_prevents_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    files = {
        "TOKENS_FILE": TokenFile(tmp_path / "tokens.json").path,
        "OIDC_JWKS_FILE": tmp_path / "jwks.json",
        "OIDC_ROLES_FILE": tmp_path / "roles.toml",
    }
    files["OIDC_JWKS_FILE"].write_bytes(jwks(jwk(rsa_key())))
    files["OIDC_ROLES_FILE"].write_text("[roles]\n")
    variables = {"OIDC_ISSUER": "i", "OIDC_AUDIENCE": "a", **{key: str(path) for key, path in files.items()}}
    settings = read(monkeypatch, variables)
    assert open_authentication(settings, CollectorRegistry()) is not None
    files[name].unlink()
    with pytest.raises(SettingsError, match=f"SAMPLE_{name}: .*there is no such file"):
        open_authentication(settings, CollectorRegistry())
    files[name].write_bytes(b"\xff{")
    with pytest.raises(SettingsError, match=f"SAMPLE_{name}: "):
        open_authentication(settings, CollectorRegistry())
