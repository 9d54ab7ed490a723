"""Certificate files: what can be used, and what is said about what cannot."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from servicekit.identity.certificate_reading import read_certificates
from servicekit.identity.certificates import CertificateFileError, CertificatePaths
from tests.authority import authority

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(microsecond=0)


def test_a_pair_and_its_authorities_are_read_with_their_expiry(tmp_path: Path) -> None:
    certificate, key = authority().sign("incident", end=NOW + HOUR).write(tmp_path, "incident")
    bundle = tmp_path / "ca.crt"
    bundle.write_bytes(authority().certificate + authority("next").certificate)
    found = read_certificates(CertificatePaths(certificate, key, bundle))
    assert found.pair == (key.read_bytes(), certificate.read_bytes())
    assert found.authorities == bundle.read_bytes()
    assert found.expiry[str(certificate)].end == NOW + HOUR
    assert set(found.expiry) == {str(certificate), str(bundle)}
    assert "PRIVATE KEY" not in repr(found)


def test_the_expiry_of_a_chain_is_that_of_its_first_to_expire(tmp_path: Path) -> None:
    certificate, key = authority().sign("incident", end=NOW + HOUR).write(tmp_path, "incident")
    between = authority().sign("between", end=NOW + HOUR / 2)
    certificate.write_bytes(certificate.read_bytes() + between.certificate)
    found = read_certificates(CertificatePaths(certificate, key))
    assert found.expiry[str(certificate)].end == NOW + HOUR / 2


def test_files_that_are_not_set_are_not_read() -> None:
    found = read_certificates(CertificatePaths())
    assert (found.pair, found.authorities, found.expiry) == (None, None, {})


@pytest.mark.parametrize(
    ("begin", "end", "reason"),
    [
        (NOW - 2 * HOUR, NOW - HOUR, f"expired at {NOW - HOUR:%Y-%m-%dT%H:%M:%SZ}"),
        (NOW + HOUR, NOW + 2 * HOUR, f"is not valid before {NOW + HOUR:%Y-%m-%dT%H:%M:%SZ}"),
    ],
    # Not the times: every worker of a run must find the same tests.
    ids=["expired", "not yet valid"],
)
def test_a_certificate_must_be_valid_now(begin: datetime, end: datetime, reason: str, tmp_path: Path) -> None:
    certificate, key = authority().sign("incident", begin=begin, end=end).write(tmp_path, "incident")
    with pytest.raises(CertificateFileError) as raised:
        read_certificates(CertificatePaths(certificate, key))
    assert (raised.value.path, raised.value.reason) == (certificate, reason)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    certificate, _ = authority().sign("incident").write(tmp_path, "incident")
    _, key = authority().sign("incident", key="another").write(tmp_path, "another")
    with pytest.raises(CertificateFileError, match="is not the key of the certificate in") as raised:
        read_certificates(CertificatePaths(certificate, key))
    assert raised.value.path == key


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, passphrase: bytes = b"") -> bytes:
    encryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no private key in PEM"),
        (b"\x00\xff" * 99, "has no private key in PEM"),
        (_pem(ec.generate_private_key(ec.SECP256R1()), b"hunter2"), "is encrypted"),
        (_pem(ed25519.Ed25519PrivateKey.generate()), "expected an ECDSA key"),
        (_pem(ec.generate_private_key(ec.SECP256K1())), "expected an ECDSA key"),
        (b"-" * (1 << 20) + b"-", "is larger than 1 MiB"),
    ],
)
def test_what_is_no_key_for_a_server_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    certificate, key = authority().sign("incident").write(tmp_path, "incident")
    key.write_bytes(content)
    with pytest.raises(CertificateFileError, match=reason) as raised:
        read_certificates(CertificatePaths(certificate, key))
    assert raised.value.path == key


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(content: bytes, tmp_path: Path) -> None:
    certificate, key = authority().sign("incident").write(tmp_path, "incident")
    certificate.write_bytes(content)
    for paths in (CertificatePaths(certificate, key), CertificatePaths(authorities=certificate)):
        with pytest.raises(CertificateFileError, match="has no certificates in PEM"):
            read_certificates(paths)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CertificateFileError, match=r"ca\.crt: there is no such file"):
        read_certificates(CertificatePaths(authorities=tmp_path / "ca.crt"))


def test_of_authorities_one_must_not_have_expired(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.crt"
    old = authority().sign("old authority", begin=NOW - 2 * HOUR, end=NOW - HOUR)
    bundle.write_bytes(old.certificate)
    with pytest.raises(CertificateFileError, match="expired at"):
        read_certificates(CertificatePaths(authorities=bundle))
    new = authority().sign("new authority", end=NOW + HOUR)
    bundle.write_bytes(old.certificate + new.certificate)
    assert read_certificates(CertificatePaths(authorities=bundle)).expiry[str(bundle)].end == NOW + HOUR
