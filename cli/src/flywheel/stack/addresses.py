"""Listen addresses: parsed from settings, reserved before the start, and as clients connect to them."""

import errno
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from flywheel.errors import FlywheelError

_HOST_PORT = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/\[\]]+)):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65_535
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, never bound by default


@dataclass(frozen=True, slots=True)
class Address:
    """A host and port to listen on. Port 0 is any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, *, variable: str) -> "Address":
        """Read `host:port` or `[ipv6]:port`. Raises FlywheelError naming `variable`, where the text comes from."""
        match = _HOST_PORT.fullmatch(text)
        if match is None or int(match["port"]) > _MAX_PORT:
            raise FlywheelError(
                f"{variable} is {text!r}, which is not host:port",
                advice=f"for example {variable}=127.0.0.1:50051",
            )
        return cls(match["ipv6"] or match["host"], int(match["port"]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def connect_address(self) -> "Address":
        """The address for clients on this machine: loopback for a server that listens on all interfaces."""
        return Address(_ANY_HOST.get(self.host, self.host), self.port)

    def overlaps(self, other: "Address") -> bool:
        """Whether two servers cannot listen on both. Port 0 is a different one for each."""
        if self.port == 0 or self.port != other.port:
            return False
        return self.connect_address == other.connect_address or not _ANY_HOST.keys().isdisjoint(
            (self.host, other.host)
        )


def refuse_overlaps(wanted: Mapping[str, Address]) -> None:
    """Raise FlywheelError, with the variables, when two of the addresses overlap.

    Both could be reserved, and one server would respond to the health check of the other.
    """
    shared = [
        f"{one} and {other} are both {wanted[one]}; give each its own"
        if wanted[one] == wanted[other]
        else f"{one} is {wanted[one]} and {other} is {wanted[other]}: that is one port twice; give each its own"
        for one, other in combinations(wanted, 2)
        if wanted[one].overlaps(wanted[other])
    ]
    if shared:
        raise FlywheelError(shared[0], details="\n".join(shared[1:]))


class ReservedAddress:
    """An address kept for one server, across its restarts, until `release`.

    A bound socket that never listens keeps the kernel from assigning the port to a program that binds port 0, while the
    server, which sets SO_REUSEADDR, can still bind it. Other systems than Linux do not allow the second bind; there the
    port is only checked, and a race remains.
    """

    def __init__(self, wanted: Address, *, variable: str) -> None:
        """Reserve `wanted`. Raises FlywheelError naming `variable` when it is in use or not local."""
        family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((wanted.host, wanted.port))
        except OSError as exc:
            self._socket.close()
            problem = "is in use" if exc.errno == errno.EADDRINUSE else f"cannot be used: {exc.strerror}"
            raise FlywheelError(
                f"the address {wanted} {problem}",
                advice=f"set {variable} to another one, or to port 0 for any that is free",
            ) from exc
        self.address = Address(wanted.host, self._socket.getsockname()[1])
        if sys.platform != "linux":
            self._socket.close()

    def release(self) -> None:
        """Free the address."""
        self._socket.close()


def reserve_all(wanted: Mapping[str, Address]) -> list[ReservedAddress]:
    """Reserve every address, or none. Raises FlywheelError naming all that cannot be reserved."""
    refuse_overlaps(wanted)
    reserved: list[ReservedAddress] = []
    refused: dict[str, FlywheelError] = {}
    for variable, address in wanted.items():
        try:
            reserved.append(ReservedAddress(address, variable=variable))
        except FlywheelError as exc:
            refused[variable] = exc
    if not refused:
        return reserved
    for each in reserved:
        each.release()
    if len(refused) == 1:
        raise next(iter(refused.values()))
    raise FlywheelError(
        "; ".join(exc.message for exc in refused.values()),
        advice=f"set {' and '.join(refused)} to others, or to port 0 for any that is free",
    )
