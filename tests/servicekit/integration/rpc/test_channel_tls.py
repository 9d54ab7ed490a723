"""Channels over TLS: whom they connect to, what they show, and certificates that are replaced under load."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceStub
from servicekit.identity.certificate_watch import CertificateWatch
from servicekit.identity.certificates import CertificatePaths
from servicekit.rpc.channel import ChannelTls, open_channel
from servicekit.rpc.reloading_channel import ReloadingChannel
from servicekit.rpc.tls import ServerTls
from tests.authority import authority
from tests.servicekit.scripted_server import SERVICE, VALID, Held, Running, scripted_server
from tests.services import TIMEOUT_SECONDS


def server_tls(folder: Path, *names: str, clients: str = "tests") -> ServerTls:
    """A server that requires certificates of the authority `clients`."""
    certificate, key = authority().sign(*names, service="incident").write(folder, "server")
    ca = folder / "clients.crt"
    ca.write_bytes(authority(clients).certificate)
    return ServerTls(
        CertificateWatch(CertificatePaths(certificate, key, ca)), requires_client_certificate=True
    )


def client_files(folder: Path, *, ca: str = "tests", signer: str = "tests") -> CertificateWatch:
    """The files of the approval service as a client."""
    authorities = folder / "ca.crt"
    authorities.write_bytes(authority(ca).certificate)
    certificate, key = authority(signer).sign("approval", service="approval").write(folder, "approval")
    return CertificateWatch(CertificatePaths(certificate, key, authorities))


@asynccontextmanager
async def serving(tls: ServerTls | None = None) -> AsyncIterator[Running]:
    """A server that is healthy: our channels call no other."""
    async with scripted_server(tls=tls) as running:
        await running.server.set_serving(True)
        yield running


async def outcome(running: Running, tls: ChannelTls | None) -> grpc.StatusCode:
    """How a call on a channel of ours ends."""
    async with open_channel(running.server.address, [SERVICE], max_attempts=2, tls=tls) as channel:
        try:
            await IncidentServiceStub(channel).Get(VALID, timeout=TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as exc:
            return exc.code()
    return grpc.StatusCode.OK


async def test_a_server_is_known_by_the_name_in_the_target(tmp_path: Path) -> None:
    async with serving(server_tls(tmp_path, "127.0.0.1")) as running:
        assert await outcome(running, ChannelTls(client_files(tmp_path))) is grpc.StatusCode.OK
        other = ChannelTls(client_files(tmp_path), "incident")
        assert await outcome(running, other) is grpc.StatusCode.UNAVAILABLE


async def test_a_server_is_known_by_the_name_in_the_settings(tmp_path: Path) -> None:
    async with serving(server_tls(tmp_path, "incident")) as running:
        assert await outcome(running, ChannelTls(client_files(tmp_path), "incident")) is grpc.StatusCode.OK
        assert await outcome(running, ChannelTls(client_files(tmp_path))) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("ca", "signer"), [("others", "tests"), ("tests", "others")])
async def test_both_sides_must_trust_the_other(ca: str, signer: str, tmp_path: Path) -> None:
    async with serving(server_tls(tmp_path, "127.0.0.1")) as running:
        tls = ChannelTls(client_files(tmp_path, ca=ca, signer=signer))
        assert await outcome(running, tls) is grpc.StatusCode.UNAVAILABLE
        assert await outcome(running, None) is grpc.StatusCode.UNAVAILABLE
        assert running.service.calls == 0


async def test_a_channel_connects_anew_when_the_certificate_changes_and_no_call_fails(tmp_path: Path) -> None:
    """The server stops trusting the first authority of clients meanwhile."""
    tls = server_tls(tmp_path, "127.0.0.1")
    files = client_files(tmp_path)
    shown: set[bytes] = set()

    async def answer(_request: Any, context: Any) -> pb.GetResponse:
        shown.update(context.auth_context()["x509_pem_cert"])
        return pb.GetResponse()

    async with (
        serving(tls) as running,
        open_channel(running.server.address, [SERVICE], tls=ChannelTls(files)) as channel,
    ):
        stub = IncidentServiceStub(channel)
        held = running.service.answer = Held()
        in_flight = asyncio.ensure_future(stub.Get(VALID, timeout=TIMEOUT_SECONDS))
        await held.began.wait()
        running.service.answer = answer
        replaced = asyncio.Event()

        async def caller() -> int:
            calls = 0
            while not replaced.is_set():
                await stub.Get(VALID, timeout=TIMEOUT_SECONDS)
                calls += 1
            return calls

        callers = [asyncio.create_task(caller()) for _ in range(4)]
        old = (tmp_path / "approval.crt").read_bytes()
        new = authority("next").sign("approval", service="approval", key="next")
        clients = tmp_path / "clients.crt"
        clients.write_bytes(clients.read_bytes() + authority("next").certificate)
        tls.certificates.refresh()
        new.write(tmp_path, "approval")
        assert files.refresh()
        files.changed()
        clients.write_bytes(authority("next").certificate)
        tls.certificates.refresh()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while new.certificate not in shown:  # noqa: ASYNC110 - a server appends
                await asyncio.sleep(0.001)
        replaced.set()
        assert min(await asyncio.gather(*callers)) > 0
        assert shown <= {old, new.certificate}
        # It began on the connection before.
        held.may_end.set()
        assert await in_flight == pb.GetResponse()


async def test_the_channel_before_is_closed_in_the_end() -> None:
    async with serving() as running:
        opened: list[grpc.aio.Channel] = []

        def connect() -> grpc.aio.Channel:
            opened.append(grpc.aio.insecure_channel(running.server.address))
            return opened[-1]

        async with ReloadingChannel(connect, grace_seconds=0) as channel:
            stub = IncidentServiceStub(channel)
            await stub.Get(VALID)
            channel.reload()
            await stub.Get(VALID)
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while opened[0].get_state() is not grpc.ChannelConnectivity.SHUTDOWN:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.001)
            await stub.Get(VALID)
        assert [each.get_state() for each in opened] == [grpc.ChannelConnectivity.SHUTDOWN] * 2


async def test_closing_closes_also_a_channel_that_is_about_to_be_closed() -> None:
    async with serving() as running:
        opened: list[grpc.aio.Channel] = []

        def connect() -> grpc.aio.Channel:
            opened.append(grpc.aio.insecure_channel(running.server.address))
            return opened[-1]

        async with ReloadingChannel(connect) as channel:
            channel.reload()
            await asyncio.sleep(0)
        assert [each.get_state() for each in opened] == [grpc.ChannelConnectivity.SHUTDOWN] * 2
