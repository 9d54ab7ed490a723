"""SPIFFE ids: the name of a service in its certificate, a URI such as `spiffe://awoooi/approval`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

# https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md, sections 2.1 to 2.3.
_ID = re.compile(
    r"spiffe://(?P<domain>[a-z0-9._-]{1,255})(?P<path>(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*)\Z"
)
_MAX_LENGTH = 2_048
TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")


class SpiffeError(Exception):
    """The certificate does not name one service of the trust domain."""


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A trust domain, and what it calls the service (`/approval`)."""

    trust_domain: str
    path: str

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}{self.path}"


# Of the services that call: few, and each sends its own with every call.
@lru_cache(maxsize=256)
def parse_spiffe_id(uri: str) -> SpiffeId:
    """Return the id that a URI is. Raises SpiffeError for any other URI, however close it is."""
    match = _ID.match(uri) if len(uri) <= _MAX_LENGTH else None
    if match is None:
        raise SpiffeError("the URI in the certificate is not a SPIFFE id")
    return SpiffeId(match["domain"], match["path"])


def peer_spiffe_id(auth_context: Mapping[str, Iterable[bytes]], *, trust_domain: str) -> SpiffeId | None:
    """Return whose certificate the other side of a gRPC connection has shown; None when it has shown none.

    `auth_context` is that of the call. Only a connection on which a certificate is required has one, and gRPC has
    verified it. Raises SpiffeError when it has not exactly one URI, as a SPIFFE certificate must, or one of another trust
    domain: an authority may sign certificates for more than this system.
    """
    if not list(auth_context.get("x509_pem_cert", ())):
        return None
    uris = list(auth_context.get("peer_uri", ()))
    if len(uris) != 1:
        raise SpiffeError(f"the certificate has {len(uris)} URIs in place of one")
    try:
        found = parse_spiffe_id(uris[0].decode("ascii"))
    except UnicodeDecodeError:
        raise SpiffeError("the URI in the certificate is not a SPIFFE id") from None
    if found.trust_domain != trust_domain:
        raise SpiffeError(f"the certificate is of another trust domain than {trust_domain}")
    if not found.path:
        raise SpiffeError("the certificate is of the trust domain itself and not of a service")
    return found
