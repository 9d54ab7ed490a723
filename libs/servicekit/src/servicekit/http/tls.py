"""TLS of an HTTP server: the context for each new connection, with the certificates of that moment."""

import os
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from servicekit.identity.certificate_store import CertificateStore
from servicekit.identity.certificates import Certificates
from servicekit.process.settings import SettingsError
from servicekit.process.tls_settings import ServerTlsSettings, variable

if TYPE_CHECKING:
    from servicekit.identity.certificate_watch import CertificateWatch

_log = structlog.get_logger()


class HttpTls:
    """The context that new connections use.

    A context is made anew for new certificates, never changed: connections that are open keep theirs, and one that cannot be
    made leaves the old one in use.
    """

    def __init__(self, watch: "CertificateWatch") -> None:
        """Raises ssl.SSLError for certificates that OpenSSL does not take."""
        self._watch = watch
        self.context = _context(watch.current)
        watch.on_change(self._replace)

    def _replace(self) -> None:
        try:
            self.context = _context(self._watch.current)
        except ssl.SSLError as exc:
            _log.error(
                "certificates_not_reloaded", file=str(self._watch.paths.certificate), reason=exc.reason
            )


def http_tls(settings: ServerTlsSettings, store: CertificateStore) -> HttpTls | None:
    """Return how the settings protect connections; None: not at all. Raises SettingsError for a file of no use."""
    if settings.tls_cert_file is None:
        return None
    watch = store.open(
        settings, certificate="tls_cert_file", key="tls_key_file", authorities="tls_client_ca_file"
    )
    try:
        return HttpTls(watch)
    except ssl.SSLError as exc:
        raise SettingsError(
            f"{variable(settings, 'tls_cert_file')}: {settings.tls_cert_file}: OpenSSL refuses it: {exc.reason}"
        ) from None


def _context(certificates: Certificates) -> ssl.SSLContext:
    if certificates.pair is None:
        raise ValueError("a server has a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    key, certificate = certificates.pair
    with _path_of(certificate) as certificate_path, _path_of(key) as key_path:
        context.load_cert_chain(certificate_path, key_path)
    if certificates.authorities is not None:
        # One that is shown must be good. Whether one is needed depends on the path: a health check has none.
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=certificates.authorities.decode("ascii", errors="ignore"))
    return context


@contextmanager
def _path_of(content: bytes) -> Iterator[str]:
    """A path at which OpenSSL reads `content`: the file that it was read from may have another one by now."""
    if sys.platform != "linux":
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
        return
    # In memory: a key is written to no disk.
    with os.fdopen(os.memfd_create("certificate", os.MFD_CLOEXEC), "wb") as memory:
        memory.write(content)
        memory.flush()
        yield f"/proc/self/fd/{memory.fileno()}"
