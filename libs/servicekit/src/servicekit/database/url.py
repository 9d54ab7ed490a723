"""Checks the form of a database URL. It holds a password, so that no error quotes any part of it.

The form is checked here and not left to the driver: its errors quote what they cannot parse, and of a password with an
unescaped `/`, `?` or `#` it may take the first part for a port and the rest for the name of a database.
"""

import re
from urllib.parse import parse_qsl, urlsplit

_EXPECTED = (
    "expected a libpq URL such as postgresql://user:password@host:5432/name;"
    " in a user name or password / ? # [ ] and @ are written %2F %3F %23 %5B %5D and %40"
)
_SCHEMES = ("postgresql://", "postgres://")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(%[\w.-]+)?\]|[^\[\]:@]*)(:(?P<port>\d{1,5}))?", re.ASCII)
_MAX_PORT = 65_535
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*", re.ASCII)
# Parameters of libpq whose value may have an @; those of the server are settings, of which none has.
_WITH_AT = frozenset(
    {
        "user",
        "password",
        "host",
        "dbname",
        "database",
        "passfile",
        "service",
        "servicefile",
        "application_name",
    }
    | {"sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "options", "krbsrvname"}
)


def check_database_url(url: str) -> None:
    """Raise ValueError, which quotes no part of it, when `url` is not a libpq URL."""
    if not _is_libpq_url(url):
        raise ValueError(_EXPECTED)


def _is_libpq_url(url: str) -> bool:
    if not url.startswith(_SCHEMES) or "#" in url or not _is_text(url):
        return False
    try:
        parts = urlsplit(url)
        # What the driver does with it.
        parameters = parse_qsl(parts.query, strict_parsing=True) if parts.query else []
    except ValueError:
        return False
    return (
        parts.netloc.count("@") <= 1
        and all(map(_is_host, parts.netloc.rpartition("@")[2].split(",")))
        and "@" not in parts.path
        and all(_is_parameter(name, value) for name, value in parameters)
    )


def _is_text(url: str) -> bool:
    """Return whether it has no control character and no white space at an end, and can be sent."""
    try:
        url.encode()
    except UnicodeEncodeError:
        return False
    return url.strip() == url and not re.search(r"[\x00-\x1f\x7f-\x9f]", url)


def _is_host(text: str) -> bool:
    match = _HOST.fullmatch(text)
    return match is not None and (match["port"] is None or _is_port(match["port"]))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 1 <= int(text) <= _MAX_PORT


def _is_parameter(name: str, value: str) -> bool:
    if name == "port":
        return all(map(_is_port, value.split(",")))
    return _PARAMETER.fullmatch(name) is not None and ("@" not in value or name in _WITH_AT)
