"""TLS of gRPC servers and channels, with certificates that are read again when they change.

gRPC asks for the certificates of a server with each new connection. Those that are open go on with the ones they began with.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from servicekit.identity.canonical import SERVICE_PREFIX, InvalidNameError, canonical
from servicekit.identity.certificate_store import CertificateStore
from servicekit.identity.certificates import Certificates
from servicekit.identity.credentials import Refusal, UnauthenticatedError
from servicekit.identity.spiffe import SpiffeError, SpiffeId, peer_spiffe_id
from servicekit.process.service_settings import ServiceSettings

if TYPE_CHECKING:
    from servicekit.identity.certificate_watch import CertificateWatch


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How a server protects its connections."""

    certificates: "CertificateWatch"
    # Whether the server's own address requires the certificate of a client.
    requires_client_certificate: bool = False
    # A second address that does; None: there is none.
    mtls_address: str | None = None
    # Of the services whose certificates are taken; None: no certificate is requested.
    trust_domain: str | None = None

    def service_of(self, properties: Mapping[str, Iterable[bytes]]) -> str | None:
        """Return the name of the service at the other end of a connection with these properties, `service:approval`.

        None for a connection without a client certificate. Raises UnauthenticatedError for one that names no service.
        """
        if self.trust_domain is None:
            return None
        try:
            found = peer_spiffe_id(properties, trust_domain=self.trust_domain)
        except SpiffeError:
            raise UnauthenticatedError(Refusal.CERTIFICATE) from None
        return None if found is None else _service_name(found)


def _service_name(spiffe_id: SpiffeId) -> str:
    # Of one segment, as the services' own are: a longer one is somebody else's scheme.
    name = spiffe_id.path.removeprefix("/")
    try:
        if "/" not in name and canonical(name) == name:
            return SERVICE_PREFIX + name
    except InvalidNameError:
        pass
    raise UnauthenticatedError(Refusal.CERTIFICATE)


def server_tls(settings: ServiceSettings, store: CertificateStore) -> ServerTls | None:
    """Return how the settings protect connections; None: not at all. Raises SettingsError for a file of no use."""
    if settings.tls_cert_file is None:
        return None
    watch = store.open(
        settings, certificate="tls_cert_file", key="tls_key_file", authorities="tls_client_ca_file"
    )
    return ServerTls(
        watch,
        requires_client_certificate=settings.requires_client_certificate,
        mtls_address=settings.mtls_listen,
        trust_domain=None if settings.tls_client_ca_file is None else settings.tls_trust_domain,
    )


def server_credentials(
    watch: "CertificateWatch", *, require_client_certificate: bool
) -> grpc.ServerCredentials:
    """Return the credentials of one port. A client's certificate is either required or not requested: gRPC has no third."""
    given = watch.current

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """Return what new connections use from now on; None for what was returned before. Called in gRPC's threads."""
        nonlocal given
        current = watch.current
        if current is given:
            return None
        given = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given),
        changed,  # type: ignore[arg-type]  # None is documented
        require_client_certificate,
    )


def channel_credentials(certificates: Certificates) -> grpc.ChannelCredentials:
    """Return the credentials of a channel that verifies the server, and shows a certificate if it has one.

    gRPC itself verifies that the server's certificate is for the name in the target.
    """
    key, certificate = certificates.pair or (None, None)
    return grpc.ssl_channel_credentials(certificates.authorities, key, certificate)


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    if certificates.pair is None:
        raise ValueError("a server has a certificate")
    return grpc.ssl_server_certificate_configuration([certificates.pair], certificates.authorities)
