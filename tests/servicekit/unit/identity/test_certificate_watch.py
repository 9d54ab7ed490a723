"""Certificates that are read again: what stays in use, what is logged and counted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic_settings import SettingsConfigDict
from structlog.testing import capture_logs

from servicekit.identity.certificate_store import CertificateStore
from servicekit.identity.certificate_watch import CertificateWatch
from servicekit.identity.certificates import CertificatePaths
from servicekit.process.settings import SettingsError
from servicekit.process.tls_settings import ServerTlsSettings
from tests.authority import authority

FIELDS = {"certificate": "tls_cert_file", "key": "tls_key_file", "authorities": "tls_client_ca_file"}


class Sample(ServerTlsSettings):
    model_config = SettingsConfigDict(env_prefix="SAMPLE_")


@pytest.fixture
def watch(tmp_path: Path) -> CertificateWatch:
    return CertificateWatch(CertificatePaths(*authority().sign("incident").write(tmp_path, "incident")))


def test_unchanged_files_change_nothing(watch: CertificateWatch) -> None:
    before = watch.current
    assert not watch.refresh()
    assert watch.current is before


def test_a_new_pair_is_used(watch: CertificateWatch, tmp_path: Path) -> None:
    new = authority().sign("incident", key="new")
    new.write(tmp_path, "incident")
    with capture_logs() as logs:
        assert watch.refresh()
    assert watch.current.pair == (new.key, new.certificate)
    assert [line["event"] for line in logs] == ["certificates_reloaded"]


def test_a_pair_that_does_not_fit_keeps_the_old_one_and_is_counted_once(
    watch: CertificateWatch, tmp_path: Path
) -> None:
    before = watch.current
    key = tmp_path / "incident.key"
    good = key.read_bytes()
    key.write_bytes(authority().sign("incident", key="another").key)
    with capture_logs() as logs:
        assert [watch.refresh() for _ in range(5)] == [False] * 5
    assert watch.current is before
    assert watch.failures[str(key)] == 1
    assert [(line["event"], line["file"]) for line in logs] == [("certificates_not_reloaded", str(key))]
    key.write_bytes(good)
    watch.refresh()
    key.write_bytes(b"")
    watch.refresh()
    watch.refresh()
    assert watch.failures[str(key)] == 2


def test_files_that_are_replaced_one_after_the_other_are_no_failure(
    watch: CertificateWatch, tmp_path: Path
) -> None:
    new = authority().sign("incident", key="new")
    with capture_logs() as logs:
        (tmp_path / "incident.crt").write_bytes(new.certificate)
        assert not watch.refresh()
        (tmp_path / "incident.key").write_bytes(new.key)
        assert watch.refresh()
    assert sum(watch.failures.values()) == 0
    assert [line["event"] for line in logs] == ["certificates_reloaded"]


@pytest.mark.parametrize("suffix", ["crt", "key"])
def test_a_file_that_is_gone_keeps_the_old_certificate(
    suffix: str, watch: CertificateWatch, tmp_path: Path
) -> None:
    before = watch.current
    path = tmp_path / f"incident.{suffix}"
    path.unlink()
    watch.refresh()
    watch.refresh()
    assert watch.current is before
    assert watch.failures[str(path)] == 1


@pytest.fixture
def settings(tmp_path: Path) -> Sample:
    certificate, key = authority().sign("incident").write(tmp_path, "incident")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority().certificate)
    return Sample(tls_cert_file=certificate, tls_key_file=key, tls_client_ca_file=ca)


@pytest.mark.parametrize("field", FIELDS.values())
def test_a_file_that_cannot_be_used_at_the_start_is_named_with_its_variable(
    field: str, settings: Sample
) -> None:
    path: Path = getattr(settings, field)
    path.unlink()
    with pytest.raises(SettingsError) as raised:
        CertificateStore().open(settings, **FIELDS)
    assert str(raised.value) == f"SAMPLE_{field.upper()}: {path}: there is no such file"


def test_the_series_show_the_expiry_of_each_file_and_its_failures(settings: Sample, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    store = CertificateStore()
    registry.register(store)
    watch = store.open(settings, **FIELDS)
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=5)
    authority().sign("incident", end=end).write(tmp_path, "incident")
    watch.refresh()

    def sample(name: str, path: Path | None) -> float | None:
        return registry.get_sample_value(name, {"file": str(path)})

    assert sample("tls_certificate_expiry_timestamp_seconds", settings.tls_cert_file) == end.timestamp()
    assert sample("tls_certificate_expiry_timestamp_seconds", settings.tls_client_ca_file)
    begin = sample("tls_certificate_not_before_timestamp_seconds", settings.tls_cert_file)
    assert begin is not None
    assert begin < datetime.now(UTC).timestamp() < end.timestamp()
    assert sample("tls_certificate_reload_failures_total", settings.tls_key_file) == 0
    assert settings.tls_key_file is not None
    settings.tls_key_file.write_bytes(b"")
    watch.refresh()
    watch.refresh()
    assert sample("tls_certificate_reload_failures_total", settings.tls_key_file) == 1


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"TLS_CERT_FILE": "a"}, "SAMPLE_TLS_KEY_FILE: must be set together with SAMPLE_TLS_CERT_FILE"),
        ({"TLS_KEY_FILE": "a"}, "SAMPLE_TLS_KEY_FILE: must be set together with SAMPLE_TLS_CERT_FILE"),
        (
            {"TLS_CLIENT_CA_FILE": "a"},
            "SAMPLE_TLS_CLIENT_CA_FILE: has no effect without SAMPLE_TLS_CERT_FILE",
        ),
    ],
)
def test_half_of_a_setting_is_refused(
    variables: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"SAMPLE_{name}", value)
    with pytest.raises(SettingsError) as raised:
        Sample.from_environment()
    assert str(raised.value) == line
