"""The second address of a server: health alone, in plain text."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from awoooi.incident.v1 import incident_service_pb2_grpc
from servicekit.identity.certificate_watch import CertificateWatch
from servicekit.identity.certificates import CertificatePaths
from servicekit.rpc.server import AddressInUseError
from servicekit.rpc.tls import ServerTls
from tests.authority import authority
from tests.servicekit.scripted_server import VALID, Held, scripted_server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
LOOPBACK = "127.0.0.1:0"


async def status(address: str, service: str = "") -> int:
    """What a probe of Kubernetes sees: one connection, one Check, no credentials."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = HealthStub(channel)  # the type stubs know no method of it
        response = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    result: int = response.status
    return result


def requiring_tls(folder: Path) -> ServerTls:
    certificate, key = authority().sign("incident", service="incident").write(folder, "server")
    ca = folder / "ca.crt"
    ca.write_bytes(authority().certificate)
    return ServerTls(
        CertificateWatch(CertificatePaths(certificate, key, ca)), requires_client_certificate=True
    )


async def watch_until(address: str, expected: int) -> None:
    """Return when the server's health is `expected`."""
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(30):
        stub: Any = HealthStub(channel)
        async for response in stub.Watch(health_pb2.HealthCheckRequest()):
            if response.status == expected:
                return


async def test_a_probe_in_plain_text_sees_the_health_of_a_server_that_requires_certificates(
    tmp_path: Path,
) -> None:
    async with scripted_server(tls=requiring_tls(tmp_path), health_address=LOOPBACK) as running:
        address = str(running.server.health_address)
        assert await status(address) == NOT_SERVING
        await running.server.set_serving(True)
        assert await status(address) == SERVING
        with pytest.raises(grpc.aio.AioRpcError):
            await status(running.server.address)


async def test_liveness_is_serving_whether_the_server_can_do_its_work_or_not() -> None:
    async with scripted_server(health_address=LOOPBACK) as running:
        address = str(running.server.health_address)
        assert await status(address, "liveness") == SERVING
        assert await status(address) == NOT_SERVING


async def test_while_it_drains_a_server_is_alive_and_not_serving() -> None:
    async with scripted_server(health_address=LOOPBACK) as running:
        held = running.service.answer = Held()
        await running.server.set_serving(True)
        call = asyncio.ensure_future(running.stub.Get(VALID, timeout=30))
        await held.began.wait()
        stopping = asyncio.ensure_future(running.server.stop())
        address = str(running.server.health_address)
        await watch_until(address, NOT_SERVING)
        assert await status(address, "liveness") == SERVING
        held.may_end.set()
        await call
        await stopping


async def test_nothing_but_health_is_served_there() -> None:
    async with (
        scripted_server(health_address=LOOPBACK) as running,
        grpc.aio.insecure_channel(str(running.server.health_address)) as channel,
    ):
        stub: Any = incident_service_pb2_grpc.IncidentServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Get(VALID, timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert running.service.calls == 0


async def test_a_port_that_is_taken_is_named_by_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AddressInUseError) as refused:
            async with scripted_server(health_address=address):
                pass
    assert refused.value.setting == "HEALTH_LISTEN"
