"""Listen addresses: parsing, the address for clients, reservation."""

import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from flywheel.errors import FlywheelError
from flywheel.stack.addresses import Address, ReservedAddress, reserve_all


@pytest.mark.parametrize(
    ("text", "host", "port", "connect_address"),
    [
        pytest.param("127.0.0.1:50051", "127.0.0.1", 50051, "127.0.0.1:50051", id="IPv4"),
        pytest.param("localhost:0", "localhost", 0, "localhost:0", id="a name, any port"),
        pytest.param("[::1]:80", "::1", 80, "[::1]:80", id="IPv6"),
        pytest.param("0.0.0.0:80", "0.0.0.0", 80, "127.0.0.1:80", id="everywhere"),  # noqa: S104 - only read
        pytest.param("[::]:80", "::", 80, "[::1]:80", id="everywhere, IPv6"),
    ],
)
def test_addresses_are_parsed(text: str, host: str, port: int, connect_address: str) -> None:
    address = Address.parse(text, variable="INCIDENT_LISTEN")
    assert (address.host, address.port) == (host, port)
    assert str(address) == text
    assert str(address.connect_address) == connect_address


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
def test_an_invalid_address_names_the_variable(text: str) -> None:
    with pytest.raises(FlywheelError, match="INCIDENT_LISTEN") as caught:
        Address.parse(text, variable="INCIDENT_LISTEN")
    assert caught.value.advice == "for example INCIDENT_LISTEN=127.0.0.1:50051"


def test_port_0_becomes_a_free_port() -> None:
    reserved = ReservedAddress(Address("127.0.0.1", 0), variable="X")
    assert reserved.address.port > 0
    reserved.release()


def test_an_address_of_another_machine_names_the_variable() -> None:
    with pytest.raises(FlywheelError, match=r"192\.0\.2\.1:80 cannot be used") as caught:
        ReservedAddress(Address("192.0.2.1", 80), variable="GATEWAY_LISTEN")
    assert "GATEWAY_LISTEN" in caught.value.advice


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a server bind what is reserved")
def test_a_reserved_address_stays_available_to_its_server_and_is_not_assigned_to_others() -> None:
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
    # A bind to port 0 gets a port that such a bind would get.
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", reserved.address.port))
    reserved.release()
    with socket.socket() as other:
        other.bind(("127.0.0.1", reserved.address.port))


@pytest.mark.parametrize(
    ("incident", "approval", "message"),
    [
        pytest.param(
            "127.0.0.1:53051",
            "127.0.0.1:53051",
            "INCIDENT_LISTEN and APPROVAL_LISTEN are both 127.0.0.1:53051; give each its own",
            id="equal",
        ),
        pytest.param(
            "0.0.0.0:53051",
            "127.0.0.1:53051",
            "INCIDENT_LISTEN is 0.0.0.0:53051 and APPROVAL_LISTEN is 127.0.0.1:53051: that is one port twice; "
            "give each its own",
            id="one listens everywhere",
        ),
    ],
)
def test_overlapping_addresses_are_refused(incident: str, approval: str, message: str) -> None:
    wanted = {"INCIDENT_LISTEN": incident, "APPROVAL_LISTEN": approval, "GATEWAY_LISTEN": "127.0.0.1:0"}
    with pytest.raises(FlywheelError) as caught:
        reserve_all({name: Address.parse(text, variable=name) for name, text in wanted.items()})
    assert caught.value.message == message


def test_port_0_repeated_gives_distinct_ports() -> None:
    reserved = reserve_all(dict.fromkeys("abc", Address("127.0.0.1", 0)))
    assert len({str(each.address) for each in reserved}) == 3
    for each in reserved:
        each.release()


def test_all_addresses_in_use_are_reported_together() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [each.getsockname()[1] for each in (one, two)]
        wanted = {
            "INCIDENT_LISTEN": Address("127.0.0.1", ports[0]),
            "APPROVAL_LISTEN": Address("127.0.0.1", 0),
            "GATEWAY_LISTEN": Address("127.0.0.1", ports[1]),
        }
        with pytest.raises(FlywheelError) as caught:
            reserve_all(wanted)
    assert caught.value.message == "; ".join(f"the address 127.0.0.1:{port} is in use" for port in ports)
    assert caught.value.advice == (
        "set INCIDENT_LISTEN and GATEWAY_LISTEN to others, or to port 0 for any that is free"
    )
