"""The settings of the side effects: errors have the variable's name and no secret."""

from pathlib import Path

import pytest

from incident.effects.external.handler import open_external_systems
from incident.effects.topics import load_template
from incident.model import ResolutionType
from incident.settings import IncidentSettings
from servicekit.process.settings import SettingsError

# Apprise imports it on Pythons that still have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

SECRET = "sesame-open-yourself"
URL = f"https://example.org/{SECRET}"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The least that the service needs, and nothing else of its settings."""
    for name in IncidentSettings.model_fields:
        monkeypatch.delenv(f"INCIDENT_{name.upper()}", raising=False)
        monkeypatch.delenv(f"INCIDENT_{name.upper()}_FILE", raising=False)
    monkeypatch.setenv("INCIDENT_DATABASE_URL", "postgresql:///incident")
    return monkeypatch


def read(environment: pytest.MonkeyPatch, **variables: str) -> IncidentSettings:
    for name, value in variables.items():
        environment.setenv(f"INCIDENT_{name}", value)
    return IncidentSettings.from_environment()


def refusal(environment: pytest.MonkeyPatch, **variables: str) -> str:
    """The error of the settings, or of opening the systems that they configure."""
    with pytest.raises(SettingsError) as caught:
        open_external_systems(read(environment, **variables))
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__cause__)
    return str(caught.value)


def test_by_default_everything_is_written_and_no_external_system_is_configured(
    environment: pytest.MonkeyPatch,
) -> None:
    settings = read(environment)
    assert settings.postmortem_skip == settings.notify_skip == frozenset()
    external = open_external_systems(settings)
    assert (external.notifier, external.webhook) == (None, None)


@pytest.mark.parametrize("name", ["POSTMORTEM_SKIP", "NOTIFY_SKIP"])
@pytest.mark.parametrize(
    ("value", "types"),
    [
        pytest.param("", set(), id="empty"),
        pytest.param("NO_ACTION", {"NO_ACTION"}, id="one"),
        pytest.param(" NO_ACTION , DUPLICATE,", {"NO_ACTION", "DUPLICATE"}, id="two, with spaces"),
        pytest.param(",".join(ResolutionType), set(ResolutionType), id="all"),
    ],
)
def test_resolution_types_are_separated_by_commas(
    environment: pytest.MonkeyPatch, name: str, value: str, types: set[str]
) -> None:
    assert getattr(read(environment, **{name: value}), name.lower()) == types


@pytest.mark.parametrize("value", ["no_action", "NO_ACTION;HUMAN", "SOMETHING", '["NO_ACTION"]'])
def test_an_unknown_resolution_type_is_refused(environment: pytest.MonkeyPatch, value: str) -> None:
    assert refusal(environment, POSTMORTEM_SKIP=value).startswith(
        "INCIDENT_POSTMORTEM_SKIP: expected resolution types, separated by commas, of NO_ACTION, "
    )


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://example.org/hook", id="TLS"),
        pytest.param("https://user:password@example.org:8443/a?b=c", id="all parts"),
        pytest.param("http://127.0.0.1:8080/hook", id="this machine"),
        pytest.param("http://[::1]:8080/", id="this machine, IPv6"),
        pytest.param("http://localhost/", id="this machine by name"),
    ],
)
async def test_a_valid_webhook_url_is_accepted(environment: pytest.MonkeyPatch, url: str) -> None:
    external = open_external_systems(read(environment, WEBHOOK_URL=url, WEBHOOK_SECRET=SECRET))
    assert external.webhook is not None
    await external.close()


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(SECRET, id="no URL"),
        pytest.param(f"ftp://example.org/{SECRET}", id="another scheme"),
        pytest.param(f"https:///{SECRET}", id="no host"),
        pytest.param(f"https://example.org:99999/{SECRET}", id="a port beyond all ports"),
        pytest.param(f"https://[::1/{SECRET}", id="half an address"),
        pytest.param(f"https://example.org/ {SECRET}", id="a space"),
        pytest.param(f"https://example.org/\x7f{SECRET}", id="a control character"),
    ],
)
def test_an_invalid_webhook_url_is_refused(environment: pytest.MonkeyPatch, url: str) -> None:
    assert refusal(environment, WEBHOOK_URL=url, WEBHOOK_SECRET=SECRET) == (
        "INCIDENT_WEBHOOK_URL: expected a URL such as https://example.org/hooks/flywheel"
    )


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", "localhost.example.org", "[2001:db8::1]"])
async def test_a_webhook_to_another_machine_without_tls_needs_the_insecure_setting(
    environment: pytest.MonkeyPatch, host: str
) -> None:
    variables = {"WEBHOOK_URL": f"http://{host}/{SECRET}", "WEBHOOK_SECRET": SECRET}
    assert refusal(environment, **variables).startswith("INCIDENT_WEBHOOK_URL: without TLS, ")
    external = open_external_systems(read(environment, WEBHOOK_INSECURE="true", **variables))
    assert external.webhook is not None
    await external.close()


def test_a_webhook_without_a_secret_is_refused(environment: pytest.MonkeyPatch) -> None:
    assert refusal(environment, WEBHOOK_URL=URL) == (
        "INCIDENT_WEBHOOK_SECRET: required when INCIDENT_WEBHOOK_URL is set: what is posted is always signed"
    )


def test_a_short_secret_is_refused(environment: pytest.MonkeyPatch) -> None:
    assert refusal(environment, WEBHOOK_URL=URL, WEBHOOK_SECRET="x" * 15) == (
        "INCIDENT_WEBHOOK_SECRET: expected at least 16 characters"
    )


def test_each_secret_of_a_rotation_is_checked_and_not_quoted(environment: pytest.MonkeyPatch) -> None:
    assert refusal(environment, WEBHOOK_URL=URL, WEBHOOK_SECRET=f"{SECRET}\nwhsec_{SECRET}") == (
        "INCIDENT_WEBHOOK_SECRET: expected whsec_ and the base64 of 24 to 64 bytes"
    )


@pytest.mark.parametrize("value", ["0s", "21s", "-1s", "soon"])
def test_a_webhook_timeout_out_of_bounds_is_refused(environment: pytest.MonkeyPatch, value: str) -> None:
    assert refusal(environment, WEBHOOK_TIMEOUT=value).startswith("INCIDENT_WEBHOOK_TIMEOUT: ")


def test_an_unusable_notification_url_is_named_by_its_position(
    environment: pytest.MonkeyPatch,
) -> None:
    assert refusal(environment, NOTIFY_URLS=f"json://127.0.0.1 nobody://{SECRET}") == (
        "INCIDENT_NOTIFY_URLS: URL 2 of 2 is none that Apprise can use"
    )


async def test_secrets_can_be_read_from_files(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {
        "NOTIFY_URLS": "json://127.0.0.1\njson://127.0.0.2\n",
        "WEBHOOK_URL": URL,
        "WEBHOOK_SECRET": SECRET,
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        environment.setenv(f"INCIDENT_{name}_FILE", str(tmp_path / name))
    settings = read(environment)
    assert SECRET not in repr(settings)
    external = open_external_systems(settings)
    assert external.notifier is not None
    assert external.webhook is not None
    await external.close()


def test_an_invalid_template_is_refused(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "mine.md.j2"
    path.write_text("{{ titel }}", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_template(read(environment, POSTMORTEM_TEMPLATE=str(path)))
    assert str(caught.value) == f"INCIDENT_POSTMORTEM_TEMPLATE: {path} line 1: 'titel' is undefined"
