"""An authority of certificates for servers and clients on this machine. Its keys are made once a process."""

import functools
import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = timedelta(days=1)


class Pair(NamedTuple):
    """A certificate and its key in PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write `<name>.crt` and `<name>.key`, and return their paths."""
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_bytes(self.certificate)
        key.write_bytes(self.key)
        return certificate, key


class Authority:
    """Signs certificates."""

    def __init__(self, name: str) -> None:
        self._key = _key(f"authority {name}")
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = _builder(self._name, self._name, self._key, now - _DAY, now + 30 * _DAY).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.certificate = _pem(certificate.sign(self._key, hashes.SHA256()))

    def sign(
        self,
        *names: str,
        service: str | Sequence[str] = (),
        begin: datetime | None = None,
        end: datetime | None = None,
        key: str = "leaf",
    ) -> Pair:
        """A certificate for host names and addresses; `service` is the path of a SPIFFE id, or whole URIs.

        Certificates with the same `key` share it.
        """
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "unnamed")])
        uris = [f"spiffe://awoooi/{service}"] if isinstance(service, str) else service
        builder = _builder(subject, self._name, _key(key), begin or now - _DAY, end or now + _DAY)
        builder = builder.add_extension(
            x509.SubjectAlternativeName(
                [*map(_name, names), *(x509.UniformResourceIdentifier(uri) for uri in uris)]
            ),
            critical=False,
        )
        return Pair(_pem(builder.sign(self._key, hashes.SHA256())), _key_pem(_key(key)))


@functools.cache
def authority(name: str = "tests") -> Authority:
    """The authority of this name; one a process."""
    return Authority(name)


@functools.cache
def _key(_name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
