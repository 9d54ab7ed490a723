"""Which URLs the keys of an identity provider may be fetched from."""

from urllib.parse import urlsplit

from servicekit.process.addresses import is_loopback


def is_trusted_url(url: str) -> bool:
    """Tell whether a URL is https://, or http:// of this machine, without a password: others may be anybody's keys."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.password is not None or not url.isprintable():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(f"{host}:{port or 80}"))


def is_discoverable(issuer: str) -> bool:
    """Tell whether an issuer is a URL under which its discovery document can be: without query and fragment."""
    return is_trusted_url(issuer) and not {"?", "#"} & {*issuer}
