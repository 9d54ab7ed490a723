"""`flywheel certs`: what it makes, and what it leaves alone."""

import shlex
import stat
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from typer.testing import CliRunner

from flywheel.__main__ import app
from flywheel.errors import FlywheelError
from servicekit.identity.certificate_reading import read_certificates
from servicekit.identity.certificates import CertificatePaths

SERVICES = ("incident", "approval", "gateway", "intake")


def certs(folder: Path, *arguments: str) -> str:
    """Run the command and return its standard output. Raises FlywheelError."""
    result = CliRunner().invoke(app, ["certs", "--dir", str(folder), *arguments])
    if isinstance(result.exception, FlywheelError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def contents(folder: Path) -> Mapping[str, bytes]:
    """All files in a folder, by their names in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path, service: str) -> x509.SubjectAlternativeName:
    certificate = x509.load_pem_x509_certificate((folder / service / "tls.crt").read_bytes())
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_each_service_gets_what_it_needs_and_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    certs(folder, "--host", "flywheel.example.com", "--host", "10.1.2.3")
    expected = {"ca.crt", "ca.key"} | {
        f"{service}/{name}" for service in SERVICES for name in ("ca.crt", "tls.crt", "tls.key")
    }
    assert set(contents(folder)) == expected
    for service in SERVICES:
        found = read_certificates(
            CertificatePaths(*(folder / service / name for name in ("tls.crt", "tls.key", "ca.crt")))
        )
        soonest = min(found.expiry.values()).end - datetime.now(UTC)
        assert timedelta(days=89) < soonest < timedelta(days=91)
        found_names = names(folder, service)
        assert found_names.get_values_for_type(x509.DNSName) == [
            service,
            "localhost",
            "flywheel.example.com",
        ]
        assert [str(each) for each in found_names.get_values_for_type(x509.IPAddress)] == [
            "127.0.0.1",
            "::1",
            "10.1.2.3",
        ]
        assert found_names.get_values_for_type(x509.UniformResourceIdentifier) == [
            f"spiffe://awoooi/{service}"
        ]


def test_the_certificates_are_verified_as_strictly_as_web_certificates(tmp_path: Path) -> None:
    certs(tmp_path / "certs")
    authority = x509.load_pem_x509_certificate((tmp_path / "certs/ca.crt").read_bytes())
    leaf = x509.load_pem_x509_certificate((tmp_path / "certs/incident/tls.crt").read_bytes())
    policy = PolicyBuilder().store(Store([authority]))
    policy.build_server_verifier(x509.DNSName("incident")).verify(leaf, [])
    policy.build_client_verifier().verify(leaf, [])


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    certs(tmp_path / "certs")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "certs").rglob("*.key")}
    assert len(modes) == len(SERVICES) + 1
    assert set(modes.values()) == {0o600}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    certs(folder)
    before = contents(folder)
    with pytest.raises(FlywheelError, match="exists, and nothing is overwritten"):
        certs(folder)
    assert contents(folder) == before
    (folder / "ca.crt").unlink()
    with pytest.raises(FlywheelError, match=r"ca\.key exists"):
        certs(folder)


def test_renewed_certificates_are_of_the_same_authority(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    certs(folder)
    (folder / "gateway/tls.key").chmod(0o640)
    before = contents(folder)
    certs(folder, "--renew", "--days", "3")
    after = contents(folder)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"{service}/{name}" for service in SERVICES for name in ("tls.crt", "tls.key")}
    assert set(after) == set(before)
    assert stat.S_IMODE((folder / "gateway/tls.key").stat().st_mode) == 0o640


def test_a_certificate_that_cannot_be_written_leaves_no_draft_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    certs(folder)
    (folder / "gateway/tls.key").unlink()
    (folder / "gateway/tls.key").mkdir()
    with pytest.raises(FlywheelError, match="Is a directory"):
        certs(folder, "--renew")
    assert {path.name for path in (folder / "gateway").iterdir()} == {"ca.crt", "tls.crt", "tls.key"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--renew"], "ca.crt: No such file"),
        (["--host", "two words"], "--host two words is no host name or address"),
        (["--trust-domain", "Example.com"], "--trust-domain has lower-case letters"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(FlywheelError, match=message):
        certs(tmp_path / "certs", *arguments)
    assert not (tmp_path / "certs").exists()


def test_it_prints_the_settings_that_use_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    lines = certs(folder, "--trust-domain", "prod.example.com").splitlines()
    variables = dict(shlex.split(line)[1].split("=", 1) for line in lines)
    assert variables["APPROVAL_TLS_TRUST_DOMAIN"] == "prod.example.com"
    uris = names(folder, "approval").get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == ["spiffe://prod.example.com/approval"]
    # At the addresses for people no certificate is requested.
    assert {variables["INCIDENT_MTLS_LISTEN"], variables["APPROVAL_MTLS_LISTEN"]} == {
        "127.0.0.1:50061",
        "127.0.0.1:50062",
    }
    assert variables["APPROVAL_INCIDENT_TLS_CERT_FILE"] == str(folder / "approval/tls.crt")
    script = (
        "from approval.settings import ApprovalSettings as A; from incident.settings import IncidentSettings as I\n"
        "from metrics_gateway.settings import GatewaySettings as G\n"
        "from alert_intake.settings import IntakeSettings as N\n"
        "[each.from_environment() for each in (A, I, G, N)]"
    )
    urls = {f"{name}_DATABASE_URL": "postgresql://u@h/d" for name in ("INCIDENT", "APPROVAL")}
    subprocess.run([sys.executable, "-c", script], env=urls | variables, check=True)
    fields = {name for name, value in variables.items() if value.endswith((".crt", ".key"))}
    assert all(Path(variables[name]).is_file() for name in fields)
