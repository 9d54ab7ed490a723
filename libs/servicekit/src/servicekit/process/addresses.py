"""Which addresses can be reached from other machines."""

import ipaddress


class ExposedWithoutAuthenticationError(Exception):
    """The address to listen on is beyond loopback, where every host could call it under any name."""


def require_loopback(address: str | None, *, insecure: bool) -> None:
    """Raises ExposedWithoutAuthenticationError when `address` is not loopback and `insecure` is not set."""
    if address is not None and not insecure and not is_loopback(address):
        raise ExposedWithoutAuthenticationError(address)


def is_loopback(address: str) -> bool:
    """Return whether `host:port` can be reached from this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
