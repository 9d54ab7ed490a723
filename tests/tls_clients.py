"""TLS contexts of clients that trust the tests' authorities."""

import ssl
from pathlib import Path

from tests.authority import Pair, authority


def client_context(folder: Path, pair: Pair | None = None, *, ca: str = "tests") -> ssl.SSLContext:
    """A client that trusts the authority `ca`, and shows a certificate, whose files are put into `folder`."""
    context = ssl.create_default_context(cadata=authority(ca).certificate.decode())
    # The tests' authorities have no key identifiers, which newer versions of Python want to see.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if pair is not None:
        context.load_cert_chain(*pair.write(folder, "client"))
    return context
