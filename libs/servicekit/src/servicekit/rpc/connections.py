"""The connections of this process to its peers: what was received by each, and an end to it.

gRPC lets no handler close a connection, nor end one call whose caller reads nothing: cancelling its task, or aborting it,
leaves the unsent answer in memory. Nor does it tell what it has received that is no message yet. So the sockets are looked up
among this process's descriptors. To gRPC, one that is shut down is a connection that its peer has closed.
"""

import contextlib
import ipaddress
import socket
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

# Address and port of a peer, in one spelling.
Endpoint: TypeAlias = tuple[str, int]

_DESCRIPTORS = next(path for path in (Path("/proc/self/fd"), Path("/dev/fd")) if path.exists())
# `tcpi_bytes_received` of Linux's `struct tcp_info`.
_RECEIVED = slice(128, 136)


def endpoint_of(peer: str) -> Endpoint | None:
    """Return the endpoint of a peer as gRPC names it (`ipv4:10.0.0.1:50000`); None when it has none."""
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    return _normal(host.strip("[]"), int(port))


def close_connections(endpoints: Collection[Endpoint]) -> None:
    """Close the connections from `endpoints`. Unknown ones are no error.

    Every descriptor is looked at: some milliseconds when there are a thousand, so connections are better closed together.
    """
    if not endpoints:
        return
    for connection in _sockets():
        with contextlib.suppress(OSError):
            if _endpoint(connection.getpeername()) in endpoints:
                connection.shutdown(socket.SHUT_RDWR)


def received_bytes(ports: Collection[int]) -> Mapping[Endpoint, int]:
    """Return how many bytes each connection to one of this process's `ports` has received; nothing where Linux is not."""
    received: dict[Endpoint, int] = {}
    if not hasattr(socket, "TCP_INFO"):
        return received
    for connection in _sockets():
        with contextlib.suppress(OSError):
            address = connection.getsockname()
            if not isinstance(address, tuple) or address[1] not in ports:
                continue
            endpoint = _endpoint(connection.getpeername())
            information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED.stop)
            if endpoint is not None and len(information) == _RECEIVED.stop:
                received[endpoint] = int.from_bytes(information[_RECEIVED], sys.byteorder)
    return received


def _sockets() -> Iterator[socket.socket]:
    """Yield each socket, borrowed until the next one.

    Not a duplicate: what a poller knows of a connection goes with its last descriptor, so gRPC, which closes its own, would
    get events of connections that it has forgotten. So a number may be of another connection from one call to the next.
    """
    try:
        descriptors = list(_DESCRIPTORS.iterdir())
    except OSError:
        # Every descriptor is in use: the next look may succeed.
        return
    for descriptor in descriptors:
        try:
            found = socket.socket(fileno=int(descriptor.name))
        except OSError:
            continue
        try:
            yield found
        finally:
            found.detach()


def _endpoint(address: object) -> Endpoint | None:
    return _normal(address[0], address[1]) if isinstance(address, tuple) else None


def _normal(host: str, port: int) -> Endpoint | None:
    """Return an address in one spelling: a socket for both families shows an IPv4 address as a mapped one."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), port
