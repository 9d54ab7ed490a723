"""What is known of certificates in PEM files. Apart from their reading, which loads a cryptographic library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple


class CertificateFileError(Exception):
    """A file that cannot be used, and why; the content is never quoted."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class CertificatePaths:
    """Where the files are. A certificate has a key; both may be missing, as may the authorities."""

    certificate: Path | None = None
    key: Path | None = None
    # Those that sign the other side's certificates.
    authorities: Path | None = None


class Validity(NamedTuple):
    """When a certificate ends to be valid, and when it began."""

    end: datetime
    begin: datetime


@dataclass(frozen=True, slots=True)
class Certificates:
    """The content of the files, which fits together. Two are equal when the files were."""

    # The key, and the certificate with those between it and its authority. Not in the representation: it is in no log.
    pair: tuple[bytes, bytes] | None = field(default=None, repr=False)
    authorities: bytes | None = None
    # By path, of the first certificate in the file that expires.
    expiry: Mapping[str, Validity] = field(default_factory=dict, compare=False)
