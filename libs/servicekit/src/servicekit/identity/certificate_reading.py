"""Reads certificates, keys and certificates of authorities in PEM files: as a whole, and checked before they are used."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from servicekit.identity.certificates import (
    CertificateFileError,
    CertificatePaths,
    Certificates,
    Validity,
)
from servicekit.process.files import why_unreadable

T = TypeVar("T")

# A bundle of all public authorities has a quarter of this.
_MAX_BYTES = 1 << 20
_MIN_RSA_BITS = 2_048
_CURVES = ("secp256r1", "secp384r1")


def read_certificates(paths: CertificatePaths, *, now: datetime | None = None) -> Certificates:
    """Read the files. Raises CertificateFileError for one that cannot be used, or when two do not fit together.

    A certificate that is not valid at `now` cannot be used: no client would accept it. An authority may have expired as
    long as another one in the file has not: a bundle that is being replaced has both.
    """
    now = now or datetime.now(UTC)
    pair = authorities = None
    expiry: dict[str, Validity] = {}
    if paths.certificate is not None and paths.key is not None:
        certificate, key = _content(paths.certificate), _content(paths.key)
        chain = _certificates(paths.certificate, certificate)
        _require_valid(paths.certificate, chain[0], now)
        public_key = _parsed(paths.certificate, "has no public key that can be read", chain[0].public_key)
        if public_key != _key(paths.key, key).public_key():
            raise CertificateFileError(paths.key, f"is not the key of the certificate in {paths.certificate}")
        pair = (key, certificate)
        expiry[str(paths.certificate)] = min(map(_validity, chain))
    if paths.authorities is not None:
        authorities = _content(paths.authorities)
        bundle = _certificates(paths.authorities, authorities)
        valid = [each for each in map(_validity, bundle) if each.end > now]
        if not valid:
            latest = max(each.not_valid_after_utc for each in bundle)
            raise CertificateFileError(paths.authorities, f"expired at {latest:%Y-%m-%dT%H:%M:%SZ}")
        expiry[str(paths.authorities)] = min(valid)
    return Certificates(pair, authorities, expiry)


def _validity(certificate: x509.Certificate) -> Validity:
    return Validity(certificate.not_valid_after_utc, certificate.not_valid_before_utc)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise CertificateFileError(path, why_unreadable(exc)) from None
    if len(content) > _MAX_BYTES:
        raise CertificateFileError(path, "is larger than 1 MiB")
    return content


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    return _parsed(path, "has no certificates in PEM", lambda: x509.load_pem_x509_certificates(content))


def _key(path: Path, content: bytes) -> RSAPrivateKey | EllipticCurvePrivateKey:
    if b"ENCRYPTED" in content:
        raise CertificateFileError(path, "is encrypted: a service has no passphrase for it")
    key = _parsed(
        path, "has no private key in PEM", lambda: serialization.load_pem_private_key(content, password=None)
    )
    # gRPC's TLS and OpenSSL's take these both.
    if isinstance(key, RSAPrivateKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return key
    raise CertificateFileError(
        path, "expected an ECDSA key (P-256, P-384) or an RSA key of 2048 bits or more"
    )


def _parsed(path: Path, otherwise: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except Exception:
        # Its own words are about ASN.1, and not all of its errors have one base.
        raise CertificateFileError(path, otherwise) from None


def _require_valid(path: Path, certificate: x509.Certificate, now: datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end:
        raise CertificateFileError(path, f"expired at {end:%Y-%m-%dT%H:%M:%SZ}")
    if now < begin:
        raise CertificateFileError(path, f"is not valid before {begin:%Y-%m-%dT%H:%M:%SZ}")
