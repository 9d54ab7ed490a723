"""The stack of `flywheel up` with the certificates of `flywheel certs`, tokens, and an identity provider."""

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import httpx2

from awoooi.client import ApprovalClient, IncidentClient
from flywheel.certificates.files import Request, make
from flywheel.stack.stack import Stack
from tests.credentials import AUDIENCE, ISSUER, TokenFile, jwk, jwks, rsa_key
from tests.metrics_gateway.scrapes import Scrape, read_text
from tests.services import TIMEOUT_SECONDS

PEOPLE = {"detector": "detector", "ai": "proposer", "alice": "approver", "olga": "operator", "vera": "viewer"}


@dataclass
class Protected:
    """A stack that runs, and who may call it."""

    stack: Stack
    folder: Path
    request: Request
    token_file: TokenFile
    tokens: Mapping[str, str]
    mtls_addresses: Mapping[str, str]

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where people and jobs call each service."""
        return {
            "incident": str(self.stack.incident.address),
            "approval": str(self.stack.approval.address),
        }

    @property
    def database_urls(self) -> Mapping[str, str]:
        """Each service's database."""
        assert self.stack.database is not None
        return {service: self.stack.database.url(service) for service in self.addresses}

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


def free_address() -> str:
    """A port on loopback without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"


@contextmanager
def protected_stack(base: Path, environment: Mapping[str, str | None] | None = None) -> Iterator[Protected]:
    """Run it with its files in `base`; `environment` has more settings."""
    folder = base / "certs"
    services = ("incident", "approval", "gateway", "intake")
    hosts = {service: (service, "localhost", "127.0.0.1") for service in services}
    request = Request(hosts, "awoooi", timedelta(days=2), timedelta(days=9))
    make(folder, request)
    token_file = TokenFile(base / "tokens.json")
    tokens = {name: token_file.add(name, role) for name, role in PEOPLE.items()}
    keys = base / "jwks.json"
    keys.write_bytes(jwks(jwk(rsa_key())))
    mtls = {"incident": free_address(), "approval": free_address()}
    settings: dict[str, str | None] = {}
    for service in hosts:
        prefix = service.upper()
        settings[f"{prefix}_TLS_CERT_FILE"] = str(folder / service / "tls.crt")
        settings[f"{prefix}_TLS_KEY_FILE"] = str(folder / service / "tls.key")
        settings[f"{prefix}_TOKENS_FILE"] = str(token_file.path)
        settings[f"{prefix}_OIDC_ISSUER"] = ISSUER
        settings[f"{prefix}_OIDC_AUDIENCE"] = AUDIENCE
        settings[f"{prefix}_OIDC_JWKS_FILE"] = str(keys)
    for service, address in mtls.items():
        settings[f"{service.upper()}_TLS_CLIENT_CA_FILE"] = str(folder / "ca.crt")
        settings[f"{service.upper()}_MTLS_LISTEN"] = address
    for client, service in (
        ("APPROVAL_INCIDENT", "approval"),
        ("GATEWAY_SOURCES", "gateway"),
        ("INTAKE_SERVICES", "intake"),
    ):
        settings[f"{client}_TLS_CA_FILE"] = str(folder / "ca.crt")
        settings[f"{client}_TLS_CERT_FILE"] = str(folder / service / "tls.crt")
        settings[f"{client}_TLS_KEY_FILE"] = str(folder / service / "tls.key")
    with Stack(
        base / "data",
        incident_listen="127.0.0.1:0",
        approval_listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        intake_listen="127.0.0.1:0",
        environment={**settings, **(environment or {})},
        durable=False,
    ) as stack:
        yield Protected(stack, folder, request, token_file, tokens, mtls)
