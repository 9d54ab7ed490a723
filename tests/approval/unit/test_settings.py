"""The service's settings."""

from datetime import timedelta

import pytest

from approval.notification.opening import open_notifications
from approval.settings import ApprovalSettings
from servicekit.process.settings import SettingsError

# Apprise imports it on Pythons that still have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ApprovalSettings.model_fields:
        monkeypatch.delenv(f"APPROVAL_{name.upper()}", raising=False)
    monkeypatch.setenv("APPROVAL_DATABASE_URL", "postgresql:///approval")


@pytest.mark.parametrize("word", ["off", "OFF", "false", "no", "0"])
def test_the_kill_switch_of_auto_approval_is_parsed(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    assert ApprovalSettings.from_environment().auto_approve
    monkeypatch.setenv("APPROVAL_AUTO_APPROVE", word)
    assert not ApprovalSettings.from_environment().auto_approve


@pytest.mark.parametrize("word", ["", "maybe", "off!"])
def test_an_invalid_kill_switch_prevents_the_start(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("APPROVAL_AUTO_APPROVE", word)
    with pytest.raises(SettingsError, match=r"^APPROVAL_AUTO_APPROVE: expected true or false, or on or off$"):
        ApprovalSettings.from_environment()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("CERT", "APPROVAL_INCIDENT_TLS_CERT_FILE: has no effect without APPROVAL_INCIDENT_TLS_CA_FILE"),
        ("KEY", "APPROVAL_INCIDENT_TLS_KEY_FILE: must be set together with APPROVAL_INCIDENT_TLS_CERT_FILE"),
    ],
)
def test_half_of_the_tls_of_the_incident_service_prevents_the_start(
    name: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"APPROVAL_INCIDENT_TLS_{name}_FILE", "/run/tls/file")
    with pytest.raises(SettingsError) as raised:
        ApprovalSettings.from_environment()
    assert line in str(raised.value).splitlines()


def test_without_a_retention_approvals_are_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ApprovalSettings.from_environment().retention is None
    monkeypatch.setenv("APPROVAL_RETENTION", "90d")
    assert ApprovalSettings.from_environment().retention == timedelta(days=90)


@pytest.mark.parametrize("value", ["0", "0s", "-1", "-30d", "soon", "30 days or so"])
def test_an_invalid_or_non_positive_retention_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("APPROVAL_RETENTION", value)
    with pytest.raises(SettingsError, match=r"^APPROVAL_RETENTION: "):
        ApprovalSettings.from_environment()


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("LINK", "ops.example.org/{approval_id}", "expected a link with {approval_id}"),
        ("LINK", "https://ops.example.org/", "expected a link with {approval_id}"),
        ("LINK", "https://ops.example.org/{incident_id}", "expected a link with {approval_id}"),
        ("LINK", "https://ops.example.org/{approval_id}/{actor}", "expected a link with {approval_id}"),
        ("INTERVAL", "4s", "expected 3s or less"),
        ("TARGET", "flywheel", "expected host:port"),
        ("REMIND_AFTER", "soon", "expected a duration"),
    ],
)
def test_an_invalid_setting_of_notifications_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(f"APPROVAL_NOTIFY_{name}", value)
    with pytest.raises(SettingsError) as caught:
        ApprovalSettings.from_environment()
    assert str(caught.value).startswith(f"APPROVAL_NOTIFY_{name}: {problem}")


@pytest.mark.parametrize(
    "name", ["https://a.example/{approval_id}", "https://a.example/{incident_id}?a={approval_id}&x"]
)
def test_a_link_to_decide_has_the_approval(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("APPROVAL_NOTIFY_LINK", name)
    assert ApprovalSettings.from_environment().notify_link == name


def test_a_url_that_cannot_be_used_prevents_the_start_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APPROVAL_NOTIFY_URLS", "oncall=json://127.0.0.1 nobody://sesame")
    with pytest.raises(SettingsError) as caught:
        open_notifications(ApprovalSettings.from_environment(), policy_file=None)
    assert str(caught.value) == "APPROVAL_NOTIFY_URLS: URL 2 of 2 is none that Apprise can use"
