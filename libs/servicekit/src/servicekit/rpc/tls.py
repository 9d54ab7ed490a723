"""TLS of gRPC servers and channels, with certificates that are read again when they change.

gRPC asks for the certificates of a server with each new connection. Those that are open go on with the ones they began with.
"""

from dataclasses import dataclass

import grpc

from servicekit.identity.certificate_store import CertificateStore
from servicekit.identity.certificate_watch import CertificateWatch
from servicekit.identity.certificates import Certificates
from servicekit.process.service_settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How a server protects its connections."""

    certificates: CertificateWatch
    # Whether the server's own address requires the certificate of a client.
    requires_client_certificate: bool = False
    # A second address that does; None: there is none.
    mtls_address: str | None = None


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
    )


def server_credentials(
    watch: CertificateWatch, *, require_client_certificate: bool
) -> grpc.ServerCredentials:
    """Return the credentials of one port. A client's certificate is either required or not asked for: gRPC has no third."""
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
