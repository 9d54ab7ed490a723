"""Listen addresses: what is one, where it is dialled, and that a reserved one stays its server's."""

import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from flywheel.addresses import Address, ReservedAddress
from flywheel.errors import FlywheelError


@pytest.mark.parametrize(
    ("text", "host", "port", "dialled"),
    [
        pytest.param("127.0.0.1:50051", "127.0.0.1", 50051, "127.0.0.1:50051", id="IPv4"),
        pytest.param("localhost:0", "localhost", 0, "localhost:0", id="a name, any port"),
        pytest.param("[::1]:80", "::1", 80, "[::1]:80", id="IPv6"),
        pytest.param("0.0.0.0:80", "0.0.0.0", 80, "127.0.0.1:80", id="everywhere"),  # noqa: S104 - only read
        pytest.param("[::]:80", "::", 80, "[::1]:80", id="everywhere, IPv6"),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int, dialled: str) -> None:
    address = Address.parse(text, variable="INCIDENT_LISTEN")
    assert (address.host, address.port) == (host, port)
    assert str(address) == text
    assert str(address.dialled) == dialled


@pytest.mark.parametrize(
    "text",
    [
        "",
        "50051",
        ":50051",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "h:65536",
        "::1:80",
        "a b:1",
        "http://a:1",
    ],
)
def test_what_is_no_address_names_the_variable(text: str) -> None:
    with pytest.raises(FlywheelError, match="INCIDENT_LISTEN") as caught:
        Address.parse(text, variable="INCIDENT_LISTEN")
    assert caught.value.advice == "for example INCIDENT_LISTEN=127.0.0.1:50051"


def test_any_port_becomes_one_that_is_free() -> None:
    reserved = ReservedAddress(Address("127.0.0.1", 0), variable="X")
    assert reserved.address.port > 0
    reserved.release()


def test_an_address_of_another_machine_names_the_variable() -> None:
    with pytest.raises(FlywheelError, match=r"192\.0\.2\.1:80 cannot be used") as caught:
        ReservedAddress(Address("192.0.2.1", 80), variable="GATEWAY_LISTEN")
    assert "GATEWAY_LISTEN" in caught.value.advice


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a server bind what is reserved")
def test_a_reserved_address_goes_to_its_server_again_and_again_and_to_nobody_who_takes_any() -> None:
    reserved = ReservedAddress(Address("127.0.0.1", 0), variable="X")
    for _ in range(2):
        server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
        assert server.add_insecure_port(str(reserved.address)) == reserved.address.port
        server.start()
        with pytest.raises(FlywheelError, match="is in use"):
            ReservedAddress(reserved.address, variable="X")
        server.stop(None).wait()

    async def serve_http() -> None:
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", reserved.address.port)
        server.close()
        await server.wait_closed()

    asyncio.run(serve_http())
    # Whoever asks for any port gets one that such a bind would get.
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", reserved.address.port))
    reserved.release()
    with socket.socket() as other:
        other.bind(("127.0.0.1", reserved.address.port))
