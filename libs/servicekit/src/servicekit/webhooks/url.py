"""Which URLs may be posted to."""

from urllib.parse import urlsplit

from servicekit.process.addresses import is_loopback


def check_url(url: str, *, example: str, insecure: bool, override: str) -> None:
    """Accept https, and http to this machine alone unless `insecure`. Raises ValueError, which never quotes the URL.

    `example` and `override` (how an operator allows http) are for the error's text.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise ValueError(f"expected a URL such as {example}")
    if parts.scheme == "http" and not insecure and not is_loopback(f"{host}:0"):
        raise ValueError(
            f"without TLS, every host on the network path can read it: use https://, or {override}"
        )
