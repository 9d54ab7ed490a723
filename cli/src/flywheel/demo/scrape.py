"""Reads the gateway's `/metrics`."""

import urllib.request
from collections.abc import Mapping

_TIMEOUT_SECONDS = 10.0

# A proxy in the environment does not apply to local services.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Scrape:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, float] = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                series, _, value = line.rpartition(" ")
                self._samples[series] = float(value)

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float | None:
        """Return the sample of a series; None when it is absent."""
        inside = ",".join(f'{key}="{value}"' for key, value in (labels or {}).items())
        return self._samples.get(f"{name}{{{inside}}}" if inside else name)


def scrape(address: str) -> Scrape:
    """Scrape the gateway at `host:port`. Raises OSError when it does not respond."""
    with _open(f"http://{address}/metrics", timeout=_TIMEOUT_SECONDS) as response:
        return Scrape(response.read().decode())
