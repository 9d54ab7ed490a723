"""Closes connections of this process by their peers.

gRPC lets no handler close a connection, nor end one call whose caller reads nothing: cancelling its task, or aborting it,
leaves the unsent answer in memory. So the socket is looked up among this process's descriptors and shut down; gRPC sees a
connection that its peer has closed, and releases all that belongs to it.
"""

import contextlib
import ipaddress
import os
import socket
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote

_DESCRIPTORS = next(path for path in (Path("/proc/self/fd"), Path("/dev/fd")) if path.exists())


def close_connections(peers: Collection[str]) -> None:
    """Close the connections from `peers`, as gRPC names them: `ipv4:10.0.0.1:50000`. Unknown ones are no error.

    Every descriptor is looked at: some milliseconds when there are a thousand, so peers are better closed together.
    """
    wanted = {endpoint for peer in peers if (endpoint := _endpoint(peer)) is not None}
    if not wanted:
        return
    for connection in _sockets():
        with connection, contextlib.suppress(OSError):
            address = connection.getpeername()
            if isinstance(address, tuple) and _normal(address[0], address[1]) in wanted:
                connection.shutdown(socket.SHUT_RDWR)


def _sockets() -> Iterator[socket.socket]:
    """Return a duplicate of each socket: gRPC may close and reuse the original's number at any time."""
    for descriptor in _DESCRIPTORS.iterdir():
        with contextlib.suppress(OSError):
            duplicate = os.dup(int(descriptor.name))
            try:
                yield socket.socket(fileno=duplicate)
            except OSError:
                os.close(duplicate)


def _endpoint(peer: str) -> tuple[str, int] | None:
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    return _normal(host.strip("[]"), int(port))


def _normal(host: str, port: int) -> tuple[str, int] | None:
    """Return an address in one spelling: a socket for both families shows an IPv4 address as a mapped one."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), port
