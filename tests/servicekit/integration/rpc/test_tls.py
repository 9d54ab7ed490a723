"""TLS of gRPC servers: who is connected to, who is not, and certificates that are replaced under load."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceStub
from servicekit.identity.authenticator import Authenticator
from servicekit.identity.certificate_watch import CertificateWatch
from servicekit.identity.certificates import CertificatePaths, Certificates
from servicekit.identity.spiffe import SpiffeId, peer_spiffe_id
from servicekit.process.addresses import ExposedWithoutAuthenticationError
from servicekit.rpc.server_builder import ServerBuilder
from servicekit.rpc.status_codes import ErrorTable
from servicekit.rpc.tls import ServerTls, channel_credentials
from tests.authority import Pair, authority
from tests.servicekit.scripted_server import VALID, scripted_server
from tests.services import TIMEOUT_SECONDS

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
SERVER = ("127.0.0.1", "localhost")


def watch(folder: Path, pair: Pair | None = None, *, clients: str = "tests") -> CertificateWatch:
    """The files of a server in `folder`."""
    certificate, key = (pair or authority().sign(*SERVER, service="incident")).write(folder, "server")
    ca = folder / "clients.crt"
    ca.write_bytes(authority(clients).certificate)
    return CertificateWatch(CertificatePaths(certificate, key, ca))


def credentials(pair: Pair | None = None, *, ca: str = "tests") -> grpc.ChannelCredentials:
    """Credentials of a client that trusts the authority `ca`."""
    return channel_credentials(
        Certificates(None if pair is None else (pair.key, pair.certificate), authority(ca).certificate)
    )


async def outcome(address: str, with_credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    """How a call on a new channel ends."""
    async with (
        grpc.aio.insecure_channel(address)
        if with_credentials is None
        else grpc.aio.secure_channel(address, with_credentials)
    ) as channel:
        try:
            await IncidentServiceStub(channel).Get(VALID, timeout=TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as exc:
            return exc.code()
    return grpc.StatusCode.OK


async def test_a_client_that_trusts_the_authority_is_served(tmp_path: Path) -> None:
    async with scripted_server(tls=ServerTls(watch(tmp_path)), credentials=credentials()) as running:
        assert await running.stub.Get(VALID) == pb.GetResponse()


async def test_a_client_in_plain_text_or_of_another_authority_is_not(tmp_path: Path) -> None:
    async with scripted_server(tls=ServerTls(watch(tmp_path)), credentials=credentials()) as running:
        address = running.server.address
        assert await outcome(address, None) is grpc.StatusCode.UNAVAILABLE
        assert await outcome(address, credentials(ca="others")) is grpc.StatusCode.UNAVAILABLE
        assert running.service.calls == 0
        # They did not harm it.
        assert await outcome(address, credentials()) is grpc.StatusCode.OK


async def test_a_client_refuses_a_server_whose_certificate_has_another_name(tmp_path: Path) -> None:
    other = authority().sign("approval", "127.0.0.2", service="incident")
    async with scripted_server(tls=ServerTls(watch(tmp_path, other)), credentials=credentials()) as running:
        assert await outcome(running.server.address, credentials()) is grpc.StatusCode.UNAVAILABLE


async def test_a_client_refuses_a_server_whose_certificate_has_expired(tmp_path: Path) -> None:
    files = watch(tmp_path)
    expired = authority().sign(*SERVER, begin=NOW - 2 * HOUR, end=NOW - HOUR)
    # As it is in a process that has been running for longer than its certificate was valid.
    files.current = Certificates((expired.key, expired.certificate))
    async with scripted_server(tls=ServerTls(files), credentials=credentials()) as running:
        assert await outcome(running.server.address, credentials()) is grpc.StatusCode.UNAVAILABLE


async def test_the_service_is_known_by_its_certificate(tmp_path: Path) -> None:
    tls = ServerTls(watch(tmp_path), requires_client_certificate=True)
    client = credentials(authority().sign("approval", service="approval"))
    found: list[SpiffeId | None] = []

    async def answer(_request: Any, context: Any) -> pb.GetResponse:
        found.append(peer_spiffe_id(context.auth_context(), trust_domain="awoooi"))
        return pb.GetResponse()

    async with scripted_server(tls=tls, credentials=client) as running:
        running.service.answer = answer
        await running.stub.Get(VALID)
    assert found == [SpiffeId("awoooi", "/approval")]


@pytest.mark.parametrize(
    "pair",
    [
        None,
        authority("others").sign("approval", service="approval"),
        authority().sign("approval", service="approval", begin=NOW - 2 * HOUR, end=NOW - HOUR),
        authority().sign("approval", service="approval", begin=NOW + HOUR, end=NOW + 2 * HOUR),
        Pair(
            authority().sign("approval", service="approval").certificate,
            authority().sign("approval", key="another").key,
        ),
    ],
    ids=["no certificate", "other authority", "expired", "not yet valid", "key of another"],
)
async def test_a_client_without_a_good_certificate_is_refused(pair: Pair | None, tmp_path: Path) -> None:
    tls = ServerTls(watch(tmp_path), requires_client_certificate=True)
    good = credentials(authority().sign("approval", service="approval"))
    async with scripted_server(tls=tls, credentials=good) as running:
        assert await outcome(running.server.address, credentials(pair)) is grpc.StatusCode.UNAVAILABLE
        assert running.service.calls == 0
        assert await outcome(running.server.address, good) is grpc.StatusCode.OK


async def test_a_second_address_requires_what_the_first_does_not_ask_for(tmp_path: Path) -> None:
    tls = ServerTls(watch(tmp_path), mtls_address="127.0.0.1:0")
    known: list[bool] = []

    async def answer(_request: Any, context: Any) -> pb.GetResponse:
        known.append(peer_spiffe_id(context.auth_context(), trust_domain="awoooi") is not None)
        return pb.GetResponse()

    approval = credentials(authority().sign("approval", service="approval"))
    async with scripted_server(tls=tls, credentials=credentials()) as running:
        running.service.answer = answer
        mtls_address = running.server.mtls_address
        assert mtls_address is not None
        assert mtls_address != running.server.address
        assert await outcome(running.server.address, credentials()) is grpc.StatusCode.OK
        assert await outcome(mtls_address, credentials()) is grpc.StatusCode.UNAVAILABLE
        assert await outcome(mtls_address, approval) is grpc.StatusCode.OK
    assert known == [False, True]


async def shown_certificate(address: str) -> bytes:
    """The certificate that a server shows to a new connection."""
    host, _, port = address.rpartition(":")
    pem = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
    return pem.encode()


async def test_no_call_is_refused_while_the_certificate_is_replaced(tmp_path: Path) -> None:
    """Neither on connections that are open, nor on new ones; and new ones see the new certificate."""
    files = watch(tmp_path)
    async with scripted_server(tls=ServerTls(files), credentials=credentials()) as running:
        address = running.server.address
        replaced = asyncio.Event()
        codes: list[grpc.StatusCode] = []

        async def reconnecting() -> None:
            while not replaced.is_set():
                codes.append(await outcome(address, credentials()))

        async def connected() -> None:
            while not replaced.is_set():
                await running.stub.Get(VALID, timeout=TIMEOUT_SECONDS)

        callers = [asyncio.create_task(call()) for call in (reconnecting, reconnecting, connected)]
        for number in range(5):
            new = authority().sign(*SERVER, service="incident", key=f"rotated {number % 2}")
            calls = len(codes)
            # One file after the other, as most programs write them.
            (tmp_path / "server.crt").write_bytes(new.certificate)
            files.refresh()
            (tmp_path / "server.key").write_bytes(new.key)
            files.refresh()
            assert await shown_certificate(address) == new.certificate
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while len(codes) < calls + 4:  # noqa: ASYNC110 - other tasks append
                    await asyncio.sleep(0.001)
        replaced.set()
        await asyncio.gather(*callers)
        assert set(codes) == {grpc.StatusCode.OK}
        assert sum(files.failures.values()) == 0


async def test_another_authority_of_clients_is_trusted_when_its_file_changes(tmp_path: Path) -> None:
    files = watch(tmp_path)
    tls = ServerTls(files, requires_client_certificate=True)
    old = credentials(authority().sign("approval", service="approval"))
    new = credentials(authority("next").sign("approval", service="approval"))
    async with scripted_server(tls=tls, credentials=old) as running:
        address = running.server.address
        assert await outcome(address, new) is grpc.StatusCode.UNAVAILABLE
        (tmp_path / "clients.crt").write_bytes(authority().certificate + authority("next").certificate)
        files.refresh()
        assert await outcome(address, new) is grpc.StatusCode.OK
        assert await outcome(address, old) is grpc.StatusCode.OK
        (tmp_path / "clients.crt").write_bytes(authority("next").certificate)
        files.refresh()
        assert await outcome(address, old) is grpc.StatusCode.UNAVAILABLE
        assert await outcome(address, new) is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("with_tls", "authenticated", "missing"),
    [(False, False, "TLS and authentication"), (True, False, "authentication"), (False, True, "TLS")],
)
async def test_beyond_loopback_both_tls_and_authentication_are_required(
    with_tls: bool, authenticated: bool, missing: str, tmp_path: Path
) -> None:
    tls = ServerTls(watch(tmp_path)) if with_tls else None

    def build(*, insecure: bool = False) -> None:
        ServerBuilder(
            "0.0.0.0:0",
            errors=ErrorTable({}),
            registry=CollectorRegistry(),
            roles={},
            authenticator=Authenticator() if authenticated else None,
            tls=tls,
            insecure=insecure,
        )

    with pytest.raises(ExposedWithoutAuthenticationError) as raised:
        build()
    assert raised.value.missing == missing
    build(insecure=True)


async def test_beyond_loopback_with_both_is_served(tmp_path: Path) -> None:
    ServerBuilder(
        "0.0.0.0:0",
        errors=ErrorTable({}),
        registry=CollectorRegistry(),
        roles={},
        authenticator=Authenticator(),
        tls=ServerTls(watch(tmp_path)),
    )
