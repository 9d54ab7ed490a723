"""A deployment as its flags describe it: addresses and credentials."""

import asyncio
import ipaddress
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import grpc.aio

from awoooi.client import NO_RETRIES, ApprovalClient, IncidentClient, StatsClient, open_channel
from flywheel.doctor.checks import CheckFailedError

# Of the callers, where the services have no authentication: a proposer never approves its own proposal.
OPERATOR = "flywheel-doctor"
APPROVER = "flywheel-doctor-approver"


class UsageError(Exception):
    """A flag cannot be used; the message names it."""


@dataclass(frozen=True)
class Deployment:
    """Where a deployment is, and how the caller proves who it is."""

    incident: str
    approval: str
    # Each host:port or a URL; empty: not checked.
    gateway: str = ""
    prometheus: str = ""
    # PEM: the authorities of the servers. With it, or with a certificate, they are called over TLS.
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    # A token with the role operator, and one of somebody else with the role approver.
    token_file: Path | None = None
    approver_token_file: Path | None = None
    timeout: float = 10.0
    # TLS with the system's authorities, when `ca_file` names none.
    tls: bool = False

    def check(self) -> None:
        """Raise UsageError for flags that cannot be used."""
        for flag, target in (("--incident", self.incident), ("--approval", self.approval)):
            self.host_port(target, flag)
        for flag, url in (("--gateway", self.gateway_url), ("--prometheus", self.prometheus)):
            if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
                raise UsageError(f"{flag}: expected a URL such as http://127.0.0.1:9090")
        if (self.cert_file is None) != (self.key_file is None):
            raise UsageError("--cert-file and --key-file: give both or none")
        if self.approver_token_file is not None and self.token_file is None:
            raise UsageError("--approver-token-file: give --token-file, too")
        for flag, file in (
            ("--ca-file", self.ca_file),
            ("--cert-file", self.cert_file),
            ("--key-file", self.key_file),
            ("--token-file", self.token_file),
            ("--approver-token-file", self.approver_token_file),
        ):
            try:
                if file is not None:
                    file.read_bytes()
            except OSError as exc:
                raise UsageError(f"{flag}: {file}: {exc.strerror}") from None

    def host_port(self, target: str, flag: str = "") -> tuple[str, int]:
        """Return host and port of a service. Raises UsageError."""
        parts = urlsplit(f"//{target.removeprefix('dns:///')}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or not port or parts.path:
            raise UsageError(f"{flag}: expected host:port, such as 127.0.0.1:50051")
        return host, port

    @property
    def is_encrypted(self) -> bool:
        """Whether the services and the gateway are called over TLS."""
        return self.tls or self.ca_file is not None or self.cert_file is not None

    @property
    def gateway_url(self) -> str:
        """The gateway's URL, without a path; empty when it is not checked."""
        if not self.gateway or "://" in self.gateway:
            return self.gateway.rstrip("/")
        return f"{'https' if self.is_encrypted else 'http'}://{self.gateway}"

    @cached_property
    def credentials(self) -> grpc.ChannelCredentials | None:
        """TLS of the channels; None without."""
        if not self.is_encrypted:
            return None
        return grpc.ssl_channel_credentials(_read(self.ca_file), _read(self.key_file), _read(self.cert_file))

    def ssl_context(self) -> ssl.SSLContext:
        """Return TLS of other connections."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context

    def token(self, *, approver: bool = False) -> str:
        """Return the bearer token; empty without."""
        file = self.approver_token_file if approver else self.token_file
        return "" if file is None else file.read_text(encoding="ascii").strip()

    def channel(self, target: str) -> grpc.aio.Channel:
        """Return a channel to a service."""
        return open_channel(target, credentials=self.credentials)

    def incidents(self, channel: grpc.aio.Channel) -> IncidentClient:
        """Return a client, called as an operator."""
        return IncidentClient(
            channel, actor=self._actor(OPERATOR), token=self.token(), timeout=self.timeout, retry=NO_RETRIES
        )

    def approvals(self, channel: grpc.aio.Channel, *, approver: bool = False) -> ApprovalClient:
        """Return a client, called as an operator or as somebody else."""
        return ApprovalClient(
            channel,
            actor=self._actor(APPROVER if approver else OPERATOR),
            token=self.token(approver=approver),
            timeout=self.timeout,
            retry=NO_RETRIES,
        )

    def stats(self, channel: grpc.aio.Channel) -> StatsClient:
        """Return a client, called as an operator."""
        return StatsClient(
            channel, actor=self._actor(OPERATOR), token=self.token(), timeout=self.timeout, retry=NO_RETRIES
        )

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what a call without a client sends besides."""
        token = self.token()
        return (("authorization", f"Bearer {token}"),) if token else ()

    def _actor(self, name: str) -> str:
        # With credentials the identity is theirs.
        return "" if self.token_file is not None or self.cert_file is not None else name

    async def get(self, url: str, *, with_token: bool = False) -> tuple[int, str]:
        """Return status and body of a URL. Raises CheckFailedError when there is no answer."""
        headers = {"Accept": "text/plain;version=0.0.4, application/json;q=0.9, */*;q=0.1"}
        if with_token and (token := self.token()):
            headers["Authorization"] = f"Bearer {token}"
        return await asyncio.to_thread(self._get, url, headers)

    def _get(self, url: str, headers: dict[str, str]) -> tuple[int, str]:
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=self.ssl_context()))
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http or https: see check
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout) as response:
                return response.status, response.read().decode(errors="replace")
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode(errors="replace")
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "reason", exc)
            raise CheckFailedError(
                f"{url}: {reason}",
                "check the address, that it runs, and what is in between: a proxy, a NetworkPolicy",
            ) from exc

    async def connect(self, target: str) -> str:
        """Connect to a service's address and return it as found. Raises CheckFailedError."""
        host, port = self.host_port(target)
        try:
            addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as exc:
            raise CheckFailedError(
                f"{host} is not the name of an address: {exc.strerror}", "correct the address, or the DNS"
            ) from exc
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError as exc:
            is_here = all(ipaddress.ip_address(address[4][0]).is_loopback for address in addresses)
            raise CheckFailedError(
                f"{target} does not accept connections: {exc.strerror or exc}",
                "start `flywheel up`, or name another deployment with --context, or --incident and --approval"
                if is_here
                else "check that the service runs and listens there (…_LISTEN), and what is in between: a Service, a"
                " NetworkPolicy, a firewall",
            ) from exc
        writer.close()
        number = len({address[4][0] for address in addresses})
        return f"{target}, {number} addresses" if number > 1 else target


def _read(file: Path | None) -> bytes | None:
    return None if file is None else file.read_bytes()
