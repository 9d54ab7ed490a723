"""A deployment as the operator's commands know it."""

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from flywheel.errors import FlywheelError
from flywheel.operator.exits import ExitStatus

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_HOST_PORT = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/\[\],]+)):(?P<port>[0-9]{1,5})")
_SCHEME = re.compile(r"(?:dns|ipv4|ipv6|unix|unix-abstract):")
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Context:
    """Where a deployment's services are, and how the caller proves who it is."""

    name: str
    # Each is host:port or another gRPC name, such as dns:///incident.example:443.
    incident: str
    approval: str
    # TLS with the system's authorities. With one of the files below there is TLS, too.
    tls: bool = False
    ca_file: str = ""
    # Shown to the servers: the caller's identity by a certificate.
    cert_file: str = ""
    key_file: str = ""
    # The caller's identity by a token.
    token_file: str = ""

    @property
    def is_encrypted(self) -> bool:
        """Whether the services are called over TLS."""
        return self.tls or bool(self.ca_file or self.cert_file)

    @property
    def is_authenticated(self) -> bool:
        """Whether the caller's identity comes from a token or a certificate, not from a name that is given."""
        return bool(self.token_file or self.cert_file)

    def check(self) -> None:
        """Raise FlywheelError, naming the flag, when it cannot be used."""
        if not NAME.fullmatch(self.name):
            raise FlywheelError(
                f"{self.name!r} is no name of a context",
                advice="a name has small letters, digits, '.', '-' and '_', 63 at most",
                exit_status=ExitStatus.USAGE,
            )
        for flag, target in (("--incident", self.incident), ("--approval", self.approval)):
            _check_target(flag, target)
        if bool(self.cert_file) != bool(self.key_file):
            missing = "--key-file" if self.cert_file else "--cert-file"
            raise FlywheelError(
                f"{missing} is missing",
                advice="a certificate and its key are given together",
                exit_status=ExitStatus.USAGE,
            )
        exposed = [each for each in (self.incident, self.approval) if not _is_on_this_machine(each)]
        if self.token_file and not self.is_encrypted and exposed:
            raise FlywheelError(
                f"--token-file: the token would be sent to {exposed[0]} in plain text",
                advice="give --ca-file, or --tls for the system's authorities",
                exit_status=ExitStatus.USAGE,
            )


LOCAL: Final = "local"


def local_context() -> Context:
    """Return the context of the stack on this machine. Raises FlywheelError for a variable that is no address."""
    found = Context(
        LOCAL,
        os.environ.get("FLYWHEEL_INCIDENT") or "127.0.0.1:50051",
        os.environ.get("FLYWHEEL_APPROVAL") or "127.0.0.1:50052",
    )
    _check_target("FLYWHEEL_INCIDENT", found.incident, separator="=")
    _check_target("FLYWHEEL_APPROVAL", found.approval, separator="=")
    return found


def _check_target(flag: str, target: str, *, separator: str = " ") -> None:
    if _SCHEME.match(target):
        return
    match = _HOST_PORT.fullmatch(target)
    if match is None or not 0 < int(match["port"]) <= _MAX_PORT:
        raise FlywheelError(
            f"{flag} is {target!r}, which is not host:port",
            advice=f"for example {flag}{separator}incident.example:443, or a gRPC name such as dns:///incident.example:443",
            exit_status=ExitStatus.USAGE,
        )


def _is_on_this_machine(target: str) -> bool:
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    for address in target.partition(":")[2].split(",") if _SCHEME.match(target) else [target]:
        host = urlsplit(f"//{address.rpartition('/')[2]}").hostname or ""
        try:
            is_loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_loopback = host == "localhost"
        if not is_loopback:
            return False
    return True
