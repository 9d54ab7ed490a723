"""All certificates that a process uses: opened by its settings, kept current, and shown as series."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from servicekit.identity.certificates import CertificateFileError, CertificatePaths
from servicekit.process.settings import Settings, SettingsError
from servicekit.process.tls_settings import variable

if TYPE_CHECKING:
    from servicekit.identity.certificate_watch import CertificateWatch

_EVERY = timedelta(seconds=1)


class CertificateStore:
    """The watches of one process. A collector of prometheus_client."""

    def __init__(self) -> None:
        self._watches: list[CertificateWatch] = []

    def open(self, settings: Settings, *, certificate: str, key: str, authorities: str) -> "CertificateWatch":
        """Read the files that these three fields of the settings name.

        Raises SettingsError, which names the variable, for one that cannot be used.
        """
        # Only a process with certificates pays for loading the cryptographic library.
        from servicekit.identity.certificate_watch import CertificateWatch  # noqa: PLC0415 - as above

        fields = {"certificate": certificate, "key": key, "authorities": authorities}
        paths = {name: getattr(settings, field) for name, field in fields.items()}
        try:
            watch = CertificateWatch(CertificatePaths(**paths))
        except CertificateFileError as exc:
            wrong = next(field for name, field in fields.items() if paths[name] == exc.path)
            raise SettingsError(f"{variable(settings, wrong)}: {exc}") from None
        self._watches.append(watch)
        return watch

    async def keep_current(self, every: timedelta = _EVERY) -> NoReturn:
        """Look at the files until cancelled. They are read in a thread: a file system may hang."""
        while True:
            await asyncio.sleep(every.total_seconds())
            for watch in self._watches:
                if await asyncio.to_thread(watch.refresh):
                    watch.changed()

    def collect(self) -> Iterable[Metric]:
        """Return when each file's first certificate expires and when it began to be valid, and failed reloads."""
        expiry = GaugeMetricFamily(
            "tls_certificate_expiry_timestamp_seconds",
            "When the first certificate in the file expires that this process uses now.",
            labels=["file"],
        )
        begin = GaugeMetricFamily(
            "tls_certificate_not_before_timestamp_seconds",
            "When the certificate that expires first in the file began to be valid.",
            labels=["file"],
        )
        failures = CounterMetricFamily(
            "tls_certificate_reload_failures",
            "How often new content of the file could not be used, and the old one stayed in use.",
            labels=["file"],
        )
        # Two watches may share a file, and a series has one value.
        times = {path: time for watch in self._watches for path, time in sorted(watch.current.expiry.items())}
        counts: dict[str, int] = {}
        for watch in self._watches:
            for path, count in watch.failures.items():
                counts[path] = max(counts.get(path, 0), count)
        for path, time in times.items():
            expiry.add_metric([path], time.end.timestamp())
            begin.add_metric([path], time.begin.timestamp())
        for path, count in counts.items():
            failures.add_metric([path], count)
        yield expiry
        yield begin
        yield failures
