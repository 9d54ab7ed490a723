"""TLS in the settings of the services: how this command asks a server for its health."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc


class OwnCertificate:
    """The certificate in a service's settings: its server is trusted when it shows this one, under any name."""

    def __init__(self, prefix: str, environment: Mapping[str, str]) -> None:
        """`prefix` begins the names of the service's variables."""
        self._certificate = Path(environment[f"{prefix}_TLS_CERT_FILE"])
        requires_certificate = (
            f"{prefix}_TLS_CLIENT_CA_FILE" in environment and f"{prefix}_MTLS_LISTEN" not in environment
        )
        self._key = Path(environment.get(f"{prefix}_TLS_KEY_FILE", "")) if requires_certificate else None

    def channel_arguments(self) -> "tuple[grpc.ChannelCredentials, tuple[str, str]]":
        """Return the credentials of a channel, and the option that names the server. Raises OSError, ValueError."""
        import grpc  # noqa: PLC0415 - takes 0.1 s, while the services start
        from cryptography import x509  # noqa: PLC0415 - as above

        content = self._certificate.read_bytes()
        names = (
            x509.load_pem_x509_certificates(content)[0]
            .extensions.get_extension_for_class(x509.SubjectAlternativeName)
            .value
        )
        hosts = [
            *names.get_values_for_type(x509.DNSName),
            *map(str, names.get_values_for_type(x509.IPAddress)),
        ]
        key = self._key.read_bytes() if self._key is not None else None
        credentials = grpc.ssl_channel_credentials(content, key, content if key is not None else None)
        # Of a wildcard, any name that it stands for.
        return credentials, ("grpc.default_authority", hosts[0].replace("*", "health", 1))

    def context(self) -> ssl.SSLContext:
        """Return the context of an HTTPS client. Raises OSError."""
        context = ssl.create_default_context(cafile=str(self._certificate))
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        return context


def own_certificate(prefix: str, environment: Mapping[str, str]) -> OwnCertificate | None:
    """Return the certificate of a service; None when it serves plain text."""
    return OwnCertificate(prefix, environment) if environment.get(f"{prefix}_TLS_CERT_FILE") else None
