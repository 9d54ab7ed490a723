"""A certificate for servers."""

import ssl
from pathlib import Path

import pytest

from tests.certificates import self_signed_certificate, server_context


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1; its key is in key.pem beside it."""
    return self_signed_certificate(tmp_path)


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    """The TLS context of a server with this certificate."""
    return server_context(certificate)
