"""The folder of an authority and its certificates: one folder a service, with the names that cert-manager uses.

Keys can be read by their owner alone. What exists is never overwritten, but for certificates that are renewed; those are
replaced as a whole, the certificate before its key, and services take them when they have both.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from flywheel.certificates.authority import Authority, Pair
from flywheel.errors import FlywheelError

CERTIFICATE, KEY, AUTHORITIES = "tls.crt", "tls.key", "ca.crt"
_AUTHORITY_KEY = "ca.key"
_PUBLIC, _OWNER_ONLY = 0o644, 0o600


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be made."""

    # Host names and addresses by service.
    hosts: Mapping[str, Sequence[str]]
    trust_domain: str
    lifetime: timedelta
    authority_lifetime: timedelta


def make(folder: Path, request: Request) -> None:
    """Make an authority and its certificates. Raises FlywheelError when one of the files exists or cannot be written."""
    names = [AUTHORITIES, _AUTHORITY_KEY]
    names += [f"{service}/{name}" for service in request.hosts for name in (CERTIFICATE, KEY, AUTHORITIES)]
    existing = [name for name in names if (folder / name).exists()]
    if existing:
        raise FlywheelError(
            f"{folder / existing[0]} exists, and nothing is overwritten",
            advice="choose another folder with --dir, or make new certificates of its authority with --renew",
        )
    authority = Authority.make(lifetime=request.authority_lifetime)
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / _AUTHORITY_KEY, authority.pair.key, _OWNER_ONLY)
        _write(folder / AUTHORITIES, authority.pair.certificate, _PUBLIC)
        _issue(folder, authority, request)


def renew(folder: Path, request: Request) -> None:
    """Replace the certificates by new ones of the same authority. Raises FlywheelError."""
    with _explained(folder):
        pair = Pair((folder / AUTHORITIES).read_bytes(), (folder / _AUTHORITY_KEY).read_bytes())
        try:
            authority = Authority(pair)
        except (ValueError, TypeError) as exc:
            raise FlywheelError(f"{folder} has no authority that flywheel certs has made: {exc}") from None
        _issue(folder, authority, request)


def _issue(folder: Path, authority: Authority, request: Request) -> None:
    for service, hosts in request.hosts.items():
        spiffe_id = f"spiffe://{request.trust_domain}/{service}"
        pair = authority.sign(spiffe_id, hosts, lifetime=request.lifetime)
        target = folder / service
        target.mkdir(exist_ok=True)
        _write(target / AUTHORITIES, authority.pair.certificate, _PUBLIC)
        _write(target / CERTIFICATE, pair.certificate, _PUBLIC)
        _write(target / KEY, pair.key, _OWNER_ONLY)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file as a whole; one that exists keeps its mode, which may have been widened for a service's user."""
    if path.exists():
        mode = path.stat().st_mode & 0o777
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


class _explained:  # noqa: N801 - reads as a statement
    """Turns errors of the file system into a FlywheelError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError):
            raise FlywheelError(f"{error.filename or self._folder}: {error.strerror}") from error
