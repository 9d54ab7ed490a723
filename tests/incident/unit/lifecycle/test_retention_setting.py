"""INCIDENT_RETENTION: a duration; without it incidents are kept for ever."""

from datetime import timedelta

import pytest

from incident.settings import IncidentSettings
from servicekit.process.settings import SettingsError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("INCIDENT_RETENTION", raising=False)
    monkeypatch.setenv("INCIDENT_DATABASE_URL", "postgresql:///incident")
    return monkeypatch


def test_without_retention_incidents_are_kept_for_ever() -> None:
    assert IncidentSettings.from_environment().retention is None


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("90d", timedelta(days=90)),
        ("36h", timedelta(hours=36)),
        ("3600", timedelta(hours=1)),
    ],
)
def test_retention_is_a_duration(environment: pytest.MonkeyPatch, value: str, kept: timedelta) -> None:
    environment.setenv("INCIDENT_RETENTION", value)
    assert IncidentSettings.from_environment().retention == kept


@pytest.mark.parametrize("value", ["0", "0s", "-1", "-30d", "soon", "30 days or so"])
def test_an_invalid_or_non_positive_retention_is_refused(environment: pytest.MonkeyPatch, value: str) -> None:
    environment.setenv("INCIDENT_RETENTION", value)
    with pytest.raises(SettingsError, match=r"^INCIDENT_RETENTION: "):
        IncidentSettings.from_environment()
