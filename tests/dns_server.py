"""A DNS server of a test: one name, whose addresses the test changes, as those of a headless Service change with its replicas."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

_HEADER_BYTES = 12
_TYPE_A = 1
_ANSWER = 0x8180


class Name:
    """Every name has these addresses, which are IPv4."""

    def __init__(self, port: int, addresses: list[str]) -> None:
        self._port = port
        self.addresses = addresses

    def target(self, port: int) -> str:
        """A gRPC target: a name in this server, and the port behind it."""
        return f"dns://127.0.0.1:{self._port}/replicas.test:{port}"


class _Answers(asyncio.DatagramProtocol):
    def __init__(self, name: Name) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own does not say that it is one.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(b"\0", _HEADER_BYTES) + 5
        question = data[_HEADER_BYTES:end]
        (kind,) = struct.unpack("!H", question[-4:-2])
        addresses = self._name.addresses if kind == _TYPE_A else []
        header = data[:2] + struct.pack("!5H", _ANSWER, 1, len(addresses), 0, 0)
        # The name by a pointer to the question's; class IN, no time to live.
        answers = (
            struct.pack("!HHHLH", 0xC00C, _TYPE_A, 1, 0, 4) + socket.inet_aton(address)
            for address in addresses
        )
        self._transport.sendto(header + question + b"".join(answers), addr)


@asynccontextmanager
async def dns_name(*addresses: str) -> AsyncIterator[Name]:
    """A name with these addresses, until the block ends."""
    name = Name(0, list(addresses))
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Answers(name), local_addr=("127.0.0.1", 0)
    )
    name._port = transport.get_extra_info("sockname")[1]
    try:
        yield name
    finally:
        transport.close()
