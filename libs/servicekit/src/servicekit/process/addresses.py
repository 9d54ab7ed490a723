"""Which addresses can be reached from other machines."""

import ipaddress


class ExposedWithoutAuthenticationError(Exception):
    """The address to listen on is beyond loopback, where every host could read it or call it under any name."""

    def __init__(self, address: str, *, setting: str = "LISTEN", missing: str) -> None:
        """`setting` ends the name of the variable with the address, and `missing` is the protection that it lacks."""
        super().__init__(address)
        self.address = address
        self.setting = setting
        self.missing = missing

    def advice(self, prefix: str) -> str:
        """Return what an operator can do; `prefix` begins the names of the variables."""
        return (
            f"{prefix}_{self.setting}: {self.address} can be reached from other machines and has no {self.missing}. Listen "
            f"on 127.0.0.1, or set up what is missing (docs/security.md), or pass --insecure (or set {prefix}_INSECURE=true) "
            "if the network keeps strangers out."
        )


def require_protection(
    address: str | None, *, insecure: bool, tls: bool, authenticated: bool, setting: str = "LISTEN"
) -> None:
    """Raise ExposedWithoutAuthenticationError for an address beyond loopback without TLS, or without authentication.

    Neither is required when `insecure` is set.
    """
    if address is None or insecure or is_loopback(address) or (tls and authenticated):
        return
    missing = {
        (False, False): "TLS and authentication",
        (True, False): "authentication",
        (False, True): "TLS",
    }
    raise ExposedWithoutAuthenticationError(address, setting=setting, missing=missing[tls, authenticated])


def is_loopback(address: str) -> bool:
    """Return whether `host:port` can be reached from this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
