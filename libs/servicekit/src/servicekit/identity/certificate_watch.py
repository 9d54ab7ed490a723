"""Certificates that are read again when their files change.

What is read is used as a whole or not at all: while new files cannot be used, the old ones stay in use, which is logged and
counted.
"""

from collections.abc import Callable

import structlog

from servicekit.identity.certificate_reading import read_certificates
from servicekit.identity.certificates import CertificateFileError, CertificatePaths, Certificates

_log = structlog.get_logger()


class CertificateWatch:
    """The certificates in some files, as they can be used now."""

    def __init__(self, paths: CertificatePaths) -> None:
        """Read the files. Raises CertificateFileError."""
        self.paths = paths
        self.current: Certificates = read_certificates(paths)
        # How often new content could not be used, by path.
        self.failures: dict[str, int] = {
            str(path): 0 for path in (paths.certificate, paths.key, paths.authorities) if path is not None
        }
        self._callbacks: list[Callable[[], None]] = []
        # What was wrong with the files at the last look; and what of that was logged.
        self._problem = ""
        self._logged = ""

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change, in the event loop."""
        self._callbacks.append(callback)

    def refresh(self) -> bool:
        """Read the files again and return whether they changed.

        A problem counts when it is still there at the next look: of two files that are being replaced, one is new first.
        """
        try:
            found = read_certificates(self.paths)
        except CertificateFileError as exc:
            self._failed(exc)
            return False
        self._problem = self._logged = ""
        if found == self.current:
            return False
        self.current = found
        _log.info(
            "certificates_reloaded",
            files=sorted(self.failures),
            expire_time=min(found.expiry.values()).end.isoformat(),
        )
        return True

    def changed(self) -> None:
        """Notify subscribers of new certificates."""
        for callback in self._callbacks:
            callback()

    def _failed(self, error: CertificateFileError) -> None:
        problem = str(error)
        if problem == self._problem != self._logged:
            self._logged = problem
            self.failures[str(error.path)] += 1
            _log.error("certificates_not_reloaded", file=str(error.path), reason=error.reason)
        self._problem = problem
