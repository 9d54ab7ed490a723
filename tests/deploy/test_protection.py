"""docker-compose.yml: every connection between the containers is protected, with the files that make-secrets makes."""

import hashlib
import os
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from alert_intake.settings import IntakeSettings
from approval.settings import ApprovalSettings
from approval.verifiers.alertmanager import AlertmanagerVerifier
from approval.verifiers.registry import load_verifier
from incident.settings import IncidentSettings
from metrics_gateway.settings import GatewaySettings
from servicekit.identity.certificate_reading import read_certificates
from servicekit.identity.certificates import CertificatePaths
from servicekit.identity.tokens import parse_tokens

ROOT = Path(__file__).parents[2]
COMPOSE: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
PROMETHEUS: Mapping[str, Any] = yaml.safe_load(
    (ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8")
)
DIRECTORY = "${FLYWHEEL_SECRETS_DIR:-./deploy/docker/secrets}"
SERVICES: Mapping[str, Any] = {
    "incident": IncidentSettings,
    "approval": ApprovalSettings,
    "intake": IntakeSettings,
    "gateway": GatewaySettings,
}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What make-secrets makes, twice: the second time it changes nothing."""
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    command = [str(ROOT / "deploy/docker/make-secrets"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    subprocess.run(command, check=True, capture_output=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    return folder


def mounted(service: str, secrets: Path) -> dict[str, Path]:
    """The folders of secrets that a container gets, by where it has them."""
    found = {}
    for volume in COMPOSE["services"][service]["volumes"]:
        if volume.startswith(DIRECTORY):
            source, target, mode = volume.removeprefix(DIRECTORY).split(":")
            assert mode == "ro"
            found[target] = secrets / source.lstrip("/")
    return found


def environment(service: str, secrets: Path) -> dict[str, str]:
    """A container's variables, with the paths of this machine."""
    variables = {name: str(value) for name, value in COMPOSE["services"][service]["environment"].items()}
    for target, source in mounted(service, secrets).items():
        variables = {name: value.replace(f"{target}/", f"{source}/") for name, value in variables.items()}
    return {name: value.replace("/run/secrets/", f"{secrets}/") for name, value in variables.items()}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_serves_tls_to_those_who_prove_who_they_are(
    service: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(service, secrets).items():
        monkeypatch.setenv(name, value)
    settings = SERVICES[service].from_environment()
    assert not settings.insecure
    assert settings.takes_tokens
    found = read_certificates(CertificatePaths(settings.tls_cert_file, settings.tls_key_file))
    assert found.pair is not None
    assert settings.tokens_file is not None
    assert parse_tokens(settings.tokens_file.read_bytes())


@pytest.mark.parametrize(
    ("client", "prefix"),
    [("approval", "incident_tls"), ("gateway", "sources_tls"), ("intake", "services_tls")],
)
def test_services_call_each_other_with_their_certificates(
    client: str, prefix: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(client, secrets).items():
        monkeypatch.setenv(name, value)
    settings: Any = SERVICES[client].from_environment()
    paths = [getattr(settings, f"{prefix}_{name}_file") for name in ("cert", "key", "ca")]
    assert read_certificates(CertificatePaths(*paths)).pair is not None
    targets = {
        "approval": lambda: [settings.incident_target],
        "gateway": lambda: [source.target for source in settings.sources],
        "intake": lambda: [settings.incident_target, settings.approval_target],
    }[client]()
    for target in targets:
        host, _, port = target.rpartition(":")
        listen = COMPOSE["services"][host]["environment"][f"{host.upper()}_MTLS_LISTEN"]
        assert listen == f"0.0.0.0:{port}"
        published = COMPOSE["services"][host]["ports"]
        assert not any(mapping.endswith(f":{port}") for mapping in published)


def test_prometheus_scrapes_with_a_token_over_tls(secrets: Path) -> None:
    ((target, source),) = mounted("prometheus", secrets).items()
    for job in PROMETHEUS["scrape_configs"]:
        assert job["scheme"] == "https"
        files = (job["tls_config"]["ca_file"], job["authorization"]["credentials_file"])
        for file in files:
            path = source / Path(file).relative_to(target)
            assert path.read_bytes().strip()
        for address in job["static_configs"][0]["targets"]:
            host = address.partition(":")[0]
            assert host in SERVICES


def test_alertmanager_posts_with_a_token_over_tls_and_the_flywheel_s_own_alerts_open_no_incidents(
    secrets: Path,
) -> None:
    (service,) = PROMETHEUS["alerting"]["alertmanagers"]
    assert service["static_configs"][0]["targets"] == ["alertmanager:9093"]
    ((target, source),) = mounted("alertmanager", secrets).items()
    configuration = yaml.safe_load(
        (ROOT / "deploy/alertmanager/alertmanager.yml").read_text(encoding="utf-8")
    )
    receivers = {each["name"]: each for each in configuration["receivers"]}
    (webhook,) = receivers[configuration["route"]["receiver"]]["webhook_configs"]
    assert webhook["url"] == "https://intake:9465/alertmanager"
    assert webhook.get("send_resolved", True)
    http = webhook["http_config"]
    token = source / Path(http["authorization"]["credentials_file"]).relative_to(target)
    assert (source / Path(http["tls_config"]["ca_file"]).relative_to(target)).read_bytes().strip()
    tokens = parse_tokens((secrets / "tokens/tokens.json").read_bytes())
    (found,) = [each for each in tokens.values() if each.identity.name == "alertmanager"]
    assert found.identity.roles == {"detector"}
    assert found.digest == hashlib.sha256(token.read_bytes().strip()).digest()
    (own,) = configuration["route"]["routes"]
    assert own["matchers"] == ['alertname=~"Flywheel.*"']
    assert "webhook_configs" not in receivers[own["receiver"]]


def test_recovery_is_verified_by_the_alertmanager_that_prometheus_reports_to(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = environment("approval", secrets)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert isinstance(
        load_verifier(ApprovalSettings.from_environment().verifier, os.environ), AlertmanagerVerifier
    )
    address = variables["APPROVAL_VERIFIER_URL"].removeprefix("http://")
    (reported_to,) = PROMETHEUS["alerting"]["alertmanagers"]
    assert reported_to["static_configs"][0]["targets"] == [address]
    shared = [COMPOSE["services"][each]["networks"] for each in ("approval", "alertmanager")]
    assert set.intersection(*map(set, shared))


def test_no_container_gets_the_key_of_the_authority_and_each_its_own_key_alone(secrets: Path) -> None:
    keys = {
        service: {
            path.relative_to(secrets)
            for folder in mounted(service, secrets).values()
            for path in folder.rglob("*.key")
        }
        for service in (*SERVICES, "prometheus", "alertmanager")
    }
    assert keys == {
        **{service: {Path(f"tls/{service}/tls.key")} for service in SERVICES},
        "prometheus": set(),
        "alertmanager": set(),
    }
    assert stat.S_IMODE((secrets / "tls/ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700


def test_the_containers_can_read_what_they_get(secrets: Path) -> None:
    """They run as another user than the owner of the files."""
    for service in (*SERVICES, "prometheus", "alertmanager"):
        for folder in mounted(service, secrets).values():
            assert folder.stat().st_mode & 0o005 == 0o005
            files = [path for path in folder.iterdir() if not path.name.startswith(".")]
            assert files
            assert all(path.stat().st_mode & 0o004 for path in files)


def test_the_health_checks_know_the_settings_of_their_service() -> None:
    text = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
    checks = [line for line in text.splitlines() if "servicekit.healthcheck" in line]
    assert [line.rpartition(", ")[2] for line in checks] == [
        '"INCIDENT"]',
        '"APPROVAL"]',
        '"INTAKE"]',
        '"GATEWAY"]',
    ]
