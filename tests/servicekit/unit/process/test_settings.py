"""Settings: what is read, and how an invalid value is reported."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from servicekit.process.settings import (
    Address,
    Duration,
    Settings,
    SettingsError,
    parse_address,
    parse_duration,
)


class Sample(Settings):
    model_config = SettingsConfigDict(env_prefix="SAMPLE_")

    listen: Address = "127.0.0.1:1"
    patience: Duration = timedelta(minutes=30)
    database_url: SecretStr
    pool_size: int = Field(default=10, ge=3)
    streams: int = Field(default=10, ge=3, le=200)
    pause: Duration | None = Field(default=None, gt=timedelta(0))
    short: Duration = Field(default=timedelta(seconds=1), ge=timedelta(milliseconds=100))
    switch: bool = False
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    share: float = Field(default=0.5, gt=0, lt=1)


@pytest.fixture(autouse=True)
def a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_DATABASE_URL", "postgresql://u:hunter2@db/x")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("30m", 1800),
        ("24h", 86_400),
        ("7d", 604_800),
        ("45", 45),
        ("1.5h", 5400),
        (" 2 s ", 2),
        ("0", 0),
        (46, 46),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


def test_a_duration_that_is_one_already_stays_as_it_is() -> None:
    assert parse_duration(timedelta(days=1)) == timedelta(days=1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1s",
        "1w",
        "s",
        "1 2",
        "1s2",
        "1e3",
        "nan",
        "inf",
        "1,5s",
        "0x10",
        "9" * 400 + "d",
        "99999999999d",
        "2d\n1",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text", ["127.0.0.1:0", "localhost:65535", "[::1]:50051", "db-1.internal:80", " h:1 "]
)
def test_addresses(text: str) -> None:
    assert parse_address(text) == text.strip()


@pytest.mark.parametrize(
    "text", ["", ":1", "h", "h:", "h:65536", "h:-1", "h:x", "::1:80", "[::1]", "a b:1", "http://h:1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        parse_address(text)


def test_settings_come_from_variables_with_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_LISTEN", "[::1]:0")
    monkeypatch.setenv("SAMPLE_PATIENCE", "90s")
    monkeypatch.setenv("SAMPLE_POOL_SIZE", "7")
    settings = Sample.from_environment()
    assert (settings.listen, settings.patience, settings.pool_size) == ("[::1]:0", timedelta(seconds=90), 7)
    assert settings.database_url.get_secret_value() == "postgresql://u:hunter2@db/x"


def test_defaults_hold_where_nothing_is_set() -> None:
    settings = Sample.from_environment()
    assert (settings.listen, settings.patience) == ("127.0.0.1:1", timedelta(minutes=30))


def test_a_secret_is_not_shown() -> None:
    assert "hunter2" not in repr(Sample.from_environment())


BAD = {
    "SAMPLE_PATIENCE": "half-an-hour-swordfish",
    "SAMPLE_LISTEN": "swordfish",
    "SAMPLE_POOL_SIZE": "swordfish",
}


@pytest.mark.parametrize("variable", BAD)
def test_a_bad_value_names_the_variable_and_never_the_value(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, BAD[variable])
    with pytest.raises(SettingsError) as caught:
        Sample.from_environment()
    assert str(caught.value).startswith(f"{variable}: ")
    assert "swordfish" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_all_bad_values_are_named_at_once_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in BAD.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        Sample.from_environment()
    assert {line.partition(":")[0] for line in str(caught.value).splitlines()} == set(BAD)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("POOL_SIZE", "2", "expected 3 or more"),
        ("POOL_SIZE", "many", "expected a whole number"),
        ("POOL_SIZE", "3.5", "expected a whole number"),
        ("STREAMS", "0", "expected 3 to 200"),
        ("STREAMS", "201", "expected 3 to 200"),
        ("PAUSE", "0", "expected more than 0s"),
        ("SHORT", "1ms", "expected 100ms or more"),
        ("SWITCH", "perhaps", "expected true or false, or on or off"),
        ("LOG_LEVEL", "LOUD", "expected DEBUG, INFO, WARNING or ERROR"),
        ("SHARE", "half", "expected a number"),
        ("SHARE", "1", "expected more than 0 and less than 1"),
    ],
)
def test_what_was_expected_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(f"SAMPLE_{variable}", value)
    with pytest.raises(SettingsError) as caught:
        Sample.from_environment()
    assert str(caught.value) == f"SAMPLE_{variable}: {reason}"


def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAMPLE_DATABASE_URL")
    with pytest.raises(SettingsError, match=r"^SAMPLE_DATABASE_URL: must be set$"):
        Sample.from_environment()


def test_a_secret_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://from-a-file\n", encoding="utf-8")
    monkeypatch.delenv("SAMPLE_DATABASE_URL")
    monkeypatch.setenv("SAMPLE_DATABASE_URL_FILE", str(tmp_path / "url"))
    assert Sample.from_environment().database_url.get_secret_value() == "postgresql://from-a-file"


def test_a_secret_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAMPLE_DATABASE_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(SettingsError, match=r"^SAMPLE_DATABASE_URL: also given"):
        Sample.from_environment()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "there is no such file", id="missing"),
        pytest.param(b"\xff\xfe", "it is not UTF-8 text", id="not text"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / "url").write_bytes(content)
    monkeypatch.delenv("SAMPLE_DATABASE_URL")
    monkeypatch.setenv("SAMPLE_DATABASE_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(SettingsError) as caught:
        Sample.from_environment()
    assert str(caught.value) == f"SAMPLE_DATABASE_URL_FILE: {tmp_path / 'url'}: {reason}"


@pytest.mark.parametrize("secret", ["postgresql://u:hunter2@db/x", "hunter2", "whsec_hunter2"])
def test_a_secret_given_as_the_name_of_its_file_is_not_quoted(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.delenv("SAMPLE_DATABASE_URL")
    monkeypatch.setenv("SAMPLE_DATABASE_URL_FILE", secret)
    with pytest.raises(SettingsError, match=r"^SAMPLE_DATABASE_URL_FILE: there is no such file$"):
        Sample.from_environment()


def test_a_secret_that_is_not_utf_8_is_refused_before_anything_encodes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SAMPLE_DATABASE_URL", os.fsdecode(b"postgresql://u:hunter2\xff@db/x"))
    with pytest.raises(SettingsError, match=r"^SAMPLE_DATABASE_URL: it is not UTF-8 text$"):
        Sample.from_environment()
