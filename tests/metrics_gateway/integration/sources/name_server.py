"""A DNS server for one name, so that a test has several replicas behind it."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

_HEADER = struct.Struct("!6H")
_RESPONSE = 0x8180  # no error, recursion desired and available
_TYPE_A = 1
_CLASS_IN = 1
_TTL_SECONDS = 5


class _OneName(asyncio.DatagramProtocol):
    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # what an endpoint's transport is

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        identity = _HEADER.unpack_from(data)[0]
        end = data.index(b"\x00", _HEADER.size) + 1
        (question_type,) = struct.unpack_from("!H", data, end)
        question = data[_HEADER.size : end + 4]
        # For every name. IPv4 addresses only; other record types get an empty response.
        addresses = self._addresses if question_type == _TYPE_A else ()
        records = [
            struct.pack("!HHHIH", 0xC00C, _TYPE_A, _CLASS_IN, _TTL_SECONDS, 4) + socket.inet_aton(address)
            for address in addresses
        ]
        header = _HEADER.pack(identity, _RESPONSE, 1, len(records), 0, 0)
        self._transport.sendto(header + question + b"".join(records), addr)


@asynccontextmanager
async def name_server(*addresses: str) -> AsyncIterator[str]:
    """A server that resolves every name to `addresses`; yields its own `host:port`."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _OneName(addresses), local_addr=("127.0.0.1", 0)
    )
    try:
        host, port = transport.get_extra_info("sockname")
        yield f"{host}:{port}"
    finally:
        transport.close()
