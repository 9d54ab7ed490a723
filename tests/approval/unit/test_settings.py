"""The service's settings and docs/configuration.md."""

import re
from pathlib import Path

import pytest

from approval.settings import ApprovalSettings
from servicekit.process.settings import SettingsError

DOCUMENT = (Path(__file__).parents[3] / "docs/configuration.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ApprovalSettings.model_fields:
        monkeypatch.delenv(f"APPROVAL_{name.upper()}", raising=False)
    monkeypatch.setenv("APPROVAL_DATABASE_URL", "postgresql:///approval")


def test_every_setting_is_documented() -> None:
    rows = set(re.findall(r"^\| `(APPROVAL_[A-Z_]+)` \|", DOCUMENT, flags=re.MULTILINE))
    assert {f"APPROVAL_{name.upper()}" for name in ApprovalSettings.model_fields} <= rows


@pytest.mark.parametrize("word", ["off", "OFF", "false", "no", "0"])
def test_auto_approval_is_on_unless_the_variable_says_off(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    assert ApprovalSettings.from_environment().auto_approve
    monkeypatch.setenv("APPROVAL_AUTO_APPROVE", word)
    assert not ApprovalSettings.from_environment().auto_approve


@pytest.mark.parametrize("word", ["", "maybe", "off!"])
def test_a_switch_that_says_neither_stops_the_start(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("APPROVAL_AUTO_APPROVE", word)
    with pytest.raises(SettingsError, match=r"^APPROVAL_AUTO_APPROVE: expected true or false, or on or off$"):
        ApprovalSettings.from_environment()
