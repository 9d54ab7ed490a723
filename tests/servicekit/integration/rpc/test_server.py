"""The server builder: addresses, and what is refused before a handler is called."""

import grpc
import pytest
from prometheus_client import CollectorRegistry

from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.process.addresses import ExposedWithoutAuthenticationError, is_loopback
from servicekit.rpc.server import AddressInUseError
from servicekit.rpc.server_builder import ServerBuilder
from servicekit.rpc.status_codes import ErrorTable
from tests.rpc_errors import refused
from tests.servicekit.scripted_server import VALID, scripted_server


async def test_a_second_server_on_the_same_port_is_refused() -> None:
    async with scripted_server() as running:
        with pytest.raises(AddressInUseError):
            async with scripted_server(address=running.server.address):
                pass
        assert await running.stub.Get(VALID) == pb.GetResponse()


def test_a_server_beyond_loopback_is_refused_without_the_setting() -> None:
    with pytest.raises(ExposedWithoutAuthenticationError):
        ServerBuilder("0.0.0.0:0", errors=ErrorTable({}), registry=CollectorRegistry(), roles={})


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:0", True),
        ("127.9.9.9:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.168.0.1:1", False),
        ("example.org:1", False),
        ("localhost.example.org:1", False),
        ("127.0.0.1.example.org:1", False),
    ],
)
def test_which_addresses_are_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


async def test_requests_are_validated_before_anything_else_reads_them() -> None:
    async with scripted_server() as running:
        refusal = await refused(running.stub.Get(pb.GetRequest()))
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert running.service.calls == 0
