"""The stack of `flywheel up` with the certificates of `flywheel certs` and tokens: every connection is protected."""

import asyncio
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest

from awoooi.client import (
    ApprovalClient,
    CallError,
    IncidentClient,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from awoooi.incident.v1 import incident_pb2
from flywheel.certificates.files import Request, make, renew
from flywheel.stack.stack import Stack
from flywheel.tokens.file import change_tokens
from flywheel.tokens.model import TokenRecord, new_token
from tests.alert_intake.alerts import TestedAlert
from tests.alert_intake.notifications import body
from tests.eventually import eventually
from tests.metrics_gateway.scrapes import Scrape, read_text
from tests.services import TIMEOUT_SECONDS

PEOPLE = {"detector": "detector", "ai": "proposer", "alice": "approver", "olga": "operator", "vera": "viewer"}


@dataclass
class Protected:
    """A stack that runs, and who may call it."""

    stack: Stack
    folder: Path
    request: Request
    tokens: Mapping[str, str]
    mtls_addresses: Mapping[str, str]

    def credentials(self, service: str | None = None) -> grpc.ChannelCredentials:
        """Trust the stack's authority; with `service`, show its certificate."""
        authority = (self.folder / "ca.crt").read_bytes()
        if service is None:
            return grpc.ssl_channel_credentials(authority)
        files = [(self.folder / service / name).read_bytes() for name in ("tls.key", "tls.crt")]
        return grpc.ssl_channel_credentials(authority, *files)

    def incidents(self, name: str | None = None) -> IncidentClient:
        """A client at the address for people."""
        return IncidentClient(
            str(self.stack.incident.address),
            credentials=self.credentials(),
            token=self.tokens[name] if name else "",
        )

    def approvals(self, name: str) -> ApprovalClient:
        """Likewise."""
        return ApprovalClient(
            str(self.stack.approval.address), credentials=self.credentials(), token=self.tokens[name]
        )

    async def scrape(self) -> Scrape:
        """What the gateway shows to a viewer."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        async with httpx2.AsyncClient(verify=context, trust_env=False) as client:
            response = await client.get(
                f"https://{self.stack.gateway.address}/metrics",
                headers={"Authorization": f"Bearer {self.tokens['vera']}"},
                timeout=TIMEOUT_SECONDS,
            )
        assert response.status_code == httpx2.codes.OK
        return read_text(response.text)


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Protected]:
    """One for all tests of this file."""
    base = tmp_path_factory.mktemp("protected")
    folder, tokens_file = base / "certs", base / "tokens.json"
    services = ("incident", "approval", "gateway", "intake")
    hosts = {service: (service, "localhost", "127.0.0.1") for service in services}
    request = Request(hosts, "awoooi", timedelta(days=2), timedelta(days=9))
    make(folder, request)
    tokens: dict[str, str] = {}
    records: list[TokenRecord] = []
    for name, role in PEOPLE.items():
        tokens[name], record = new_token(name, [role], "1h")
        records.append(record)
    change_tokens(tokens_file, lambda _found: records, create=True)
    mtls = {"incident": _free_address(), "approval": _free_address()}
    environment: dict[str, str | None] = {}
    for service in hosts:
        prefix = service.upper()
        environment[f"{prefix}_TLS_CERT_FILE"] = str(folder / service / "tls.crt")
        environment[f"{prefix}_TLS_KEY_FILE"] = str(folder / service / "tls.key")
        environment[f"{prefix}_TOKENS_FILE"] = str(tokens_file)
    for service, address in mtls.items():
        environment[f"{service.upper()}_TLS_CLIENT_CA_FILE"] = str(folder / "ca.crt")
        environment[f"{service.upper()}_MTLS_LISTEN"] = address
    for client, service in (
        ("APPROVAL_INCIDENT", "approval"),
        ("GATEWAY_SOURCES", "gateway"),
        ("INTAKE_SERVICES", "intake"),
    ):
        environment[f"{client}_TLS_CA_FILE"] = str(folder / "ca.crt")
        environment[f"{client}_TLS_CERT_FILE"] = str(folder / service / "tls.crt")
        environment[f"{client}_TLS_KEY_FILE"] = str(folder / service / "tls.key")
    with Stack(
        base / "data",
        incident_listen="127.0.0.1:0",
        approval_listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        intake_listen="127.0.0.1:0",
        environment=environment,
        durable=False,
    ) as stack:
        yield Protected(stack, folder, request, tokens, mtls)


async def _heal(protected: Protected, incident_id: str) -> None:
    """Open an incident and resolve it by an approved action."""
    async with (
        protected.incidents("detector") as detector,
        protected.incidents("vera") as viewer,
        protected.approvals("ai") as ai,
        protected.approvals("alice") as alice,
        protected.approvals("olga") as olga,
    ):
        await detector.create(incident_id=incident_id, title="api answers slowly", severity="HIGH")
        proposed = await ai.propose(incident_id=incident_id, action="NO_ACTION: observe first", risk="LOW")
        await alice.approve(proposed.approval_id)
        await olga.execute(proposed.approval_id)
        resolved = await eventually(
            lambda: viewer.get(incident_id),
            lambda found: found.state == incident_pb2.Incident.STATE_RESOLVED,
        )
        assert resolved.resolved_by == "service:approval"


async def test_an_incident_is_healed_and_every_record_names_who_did_it(protected: Protected) -> None:
    await _heal(protected, "INC-20260507-99ADF1")
    scrape = await eventually(
        protected.scrape, lambda found: found.value("awoooi_flywheel_source_up", source="incident") == 1
    )
    assert scrape.value("awoooi_flywheel_source_up", source="approval") == 1


async def test_alerts_are_taken_from_a_detector_and_the_services_know_the_intake_by_its_certificate(
    protected: Protected,
) -> None:
    alert = TestedAlert()
    context = ssl.create_default_context(cafile=str(protected.folder / "ca.crt"))
    async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=TIMEOUT_SECONDS) as client:

        async def post(name: str, report: dict[str, Any]) -> int:
            response = await client.post(
                f"https://{protected.stack.intake.address}/alertmanager",
                content=body(report),
                headers={
                    "Authorization": f"Bearer {protected.tokens[name]}",
                    "Content-Type": "application/json",
                },
            )
            return response.status_code

        assert await post("vera", alert.fires()) == httpx2.codes.FORBIDDEN
        assert await post("detector", alert.fires()) == httpx2.codes.OK
        assert await post("detector", alert.ended(until=5)) == httpx2.codes.OK
    async with protected.incidents("vera") as viewer:
        page = await viewer.list(fingerprint=alert.fingerprint).page()
    (incident,) = page.incidents
    assert (incident.opened_by, incident.resolved_by) == ("service:intake", "service:intake")


async def test_who_proves_nothing_is_refused(protected: Protected) -> None:
    async with protected.incidents() as nobody, protected.incidents("vera") as viewer:
        with pytest.raises(UnauthenticatedError):
            await nobody.get("INC-20260507-99ADF1")
        with pytest.raises(PermissionDeniedError):
            await viewer.create(incident_id="INC-20260507-99ADF9", title="x", severity="LOW")


@pytest.mark.parametrize(
    ("service", "error"),
    [(None, UnavailableError), ("approval", None), ("gateway", PermissionDeniedError)],
)
async def test_services_are_known_by_their_certificates(
    service: str | None, error: type[CallError] | None, protected: Protected
) -> None:
    address = protected.mtls_addresses["incident"]
    async with IncidentClient(address, credentials=protected.credentials(service), timeout=5) as client:
        if error is None:
            with pytest.raises(NotFoundError):
                await client.get("INC-20260507-000000")
        else:
            with pytest.raises(error):
                await client.lookup_incidents([])


async def test_all_certificates_are_renewed_while_it_runs(protected: Protected) -> None:
    before = await protected.scrape()
    await asyncio.to_thread(renew, protected.folder, protected.request)
    certificate = str(protected.folder / "gateway/tls.crt")

    def renewed(scrape: Scrape) -> bool:
        name = "tls_certificate_expiry_timestamp_seconds"
        return scrape.value(name, file=certificate) != before.value(name, file=certificate)

    await eventually(protected.scrape, renewed)
    await _heal(protected, "INC-20260507-99ADF3")
    after = await protected.scrape()
    for failures in (before, after):
        counts = failures.labelled("tls_certificate_reload_failures_total")
        assert set(counts.values()) == {0}
