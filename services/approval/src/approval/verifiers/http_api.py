"""GET of JSON from the API of a monitoring system, with bounds: one URL, no redirects, so many bytes, so long.

The client is httpx2's core, as for webhooks: it keeps no cookies and decodes no body.
"""

import asyncio
import json
import ssl
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpcore2
import httpx2

from approval.verifiers.protocol import CannotTellError
from servicekit.process.files import why_unreadable
from servicekit.webhooks.network import BoundedBackend
from servicekit.webhooks.proxy import environment_proxy, to_core
from servicekit.webhooks.url import check_url

# Tens of thousands of alerts. A longer answer is none.
_MAX_RESPONSE_BYTES = 16 << 20
# Parsed in one turn of the event loop.
_MAX_READ_BYTES = 65_536
_MAX_CONNECTIONS = 8
_IDLE_SECONDS = 5.0
_OK = 200
_NOT_FOUND = 404
_PREFIX = "APPROVAL_VERIFIER"
_EXAMPLE = "http://127.0.0.1:9093"


class NoSuchPathError(CannotTellError):
    """The API has no such path."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API returned, and when, by its own clock; None when it does not say."""

    content: Any
    time: datetime | None


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How the API is reached. Secrets are read from their files at each request: a rotation needs no restart."""

    url: str
    token_file: Path | None = None
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "HttpSettings":
        """Read the variables APPROVAL_VERIFIER_…. Raises ValueError, naming the variable."""

        def path(name: str) -> Path | None:
            value = environment.get(f"{_PREFIX}_{name}", "")
            return Path(value) if value else None

        url = environment.get(f"{_PREFIX}_URL", "")
        insecure = environment.get(f"{_PREFIX}_INSECURE", "false").strip().lower()
        if insecure not in ("true", "false", "on", "off"):
            raise ValueError(f"{_PREFIX}_INSECURE: expected true or false, or on or off")
        try:
            check_url(
                url,
                example=_EXAMPLE,
                insecure=insecure in ("true", "on"),
                override=f"{_PREFIX}_INSECURE=true",
            )
        except ValueError as exc:
            raise ValueError(f"{_PREFIX}_URL: {exc}") from None
        settings = cls(
            url.rstrip("/"),
            path("TOKEN_FILE"),
            environment.get(f"{_PREFIX}_USERNAME", ""),
            path("PASSWORD_FILE"),
            path("TLS_CA_FILE"),
            path("TLS_CERT_FILE"),
            path("TLS_KEY_FILE"),
        )
        if bool(settings.username) != (settings.password_file is not None):
            raise ValueError(f"{_PREFIX}_USERNAME and {_PREFIX}_PASSWORD_FILE: set both or none")
        if settings.token_file is not None and settings.username:
            raise ValueError(f"{_PREFIX}_TOKEN_FILE: not together with {_PREFIX}_USERNAME")
        if (settings.cert_file is None) != (settings.key_file is None):
            raise ValueError(f"{_PREFIX}_TLS_CERT_FILE and {_PREFIX}_TLS_KEY_FILE: set both or none")
        settings.tls()
        settings.authorization()
        return settings

    def tls(self) -> ssl.SSLContext:
        """Return the context that verifies the server. Raises ValueError, naming the variable."""
        try:
            # Without a file: the roots of the operating system, or those that SSL_CERT_FILE names.
            context = (
                httpcore2.default_ssl_context()
                if self.ca_file is None
                else ssl.create_default_context(cafile=str(self.ca_file))
            )
        except (OSError, ssl.SSLError):
            raise ValueError(f"{_PREFIX}_TLS_CA_FILE: cannot be used") from None
        if self.cert_file is not None and self.key_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file)
            except (OSError, ssl.SSLError):
                raise ValueError(f"{_PREFIX}_TLS_CERT_FILE: cannot be used with the key") from None
        return context

    def authorization(self) -> str:
        """Return the header, empty without credentials. Raises ValueError, which never quotes a file."""
        if self.token_file is not None:
            return f"Bearer {_secret(self.token_file, 'TOKEN_FILE')}"
        if self.password_file is not None:
            credentials = f"{self.username}:{_secret(self.password_file, 'PASSWORD_FILE')}".encode()
            return f"Basic {b64encode(credentials).decode()}"
        return ""


def _secret(path: Path, name: str) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"{_PREFIX}_{name}: {why_unreadable(exc)}") from None
    if not secret or not secret.isprintable() or not secret.isascii():
        raise ValueError(f"{_PREFIX}_{name}: expected one line of printable ASCII")
    return secret


class HttpApi:
    """The API at one URL. Holds connections: close it."""

    def __init__(self, settings: HttpSettings, *, max_response_bytes: int = _MAX_RESPONSE_BYTES) -> None:
        """Raises ValueError, which never quotes the URL, when it or the environment's proxy for it cannot be used."""
        self._settings = settings
        try:
            self._url = httpx2.URL(settings.url)
        except httpx2.InvalidURL:
            raise ValueError(f"{_PREFIX}_URL: not a URL") from None
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=settings.tls(),
            proxy=environment_proxy(self._url),
            max_connections=_MAX_CONNECTIONS,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=BoundedBackend(
                max_response_bytes=max_response_bytes, max_read_bytes=_MAX_READ_BYTES
            ),
        )

    async def get(self, path: str, parameters: Sequence[tuple[str, str]] = ()) -> Answer:
        """Return the JSON at a path. Raises CannotTellError, whose text quotes neither the URL nor the answer."""
        try:
            authorization = await asyncio.to_thread(self._settings.authorization)
        except ValueError as exc:
            raise CannotTellError(str(exc)) from None
        url = httpx2.URL(f"{self._settings.url}{path}", params=list(parameters))
        headers = httpx2.Headers(
            {
                "Host": self._url.netloc.decode("ascii"),
                "Accept": "application/json",
                # A few compressed bytes could be gigabytes.
                "Accept-Encoding": "identity",
                "User-Agent": "awoooi-approval",
            }
        )
        if authorization:
            headers["Authorization"] = authorization
        elif self._url.userinfo:
            credentials = f"{self._url.username}:{self._url.password}".encode()
            headers["Authorization"] = f"Basic {b64encode(credentials).decode()}"
        try:
            async with self._pool.stream("GET", to_core(url), headers=headers.raw) as response:
                if response.status != _OK:
                    raise _refusal(response.status)
                body = b"".join([chunk async for chunk in response.aiter_stream()])
        except httpcore2.ConnectError as exc:
            raise CannotTellError(f"cannot connect: {exc}") from None
        except httpcore2.TimeoutException:
            raise CannotTellError("no answer in time") from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.ProxyError) as exc:
            raise CannotTellError(f"the connection failed: {type(exc).__name__}") from None
        try:
            # In a thread: megabytes take a while.
            content = await asyncio.to_thread(json.loads, body)
        except (ValueError, RecursionError):
            raise CannotTellError("the answer is not JSON") from None
        return Answer(content, _date(response))

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


def _refusal(status: int) -> CannotTellError:
    hint = "; redirects are not followed" if status // 100 == 3 else ""  # noqa: PLR2004 - 3xx
    kind = NoSuchPathError if status == _NOT_FOUND else CannotTellError
    return kind(f"answered {status}{hint}")


def _date(response: httpcore2.Response) -> datetime | None:
    values = (value.decode("latin-1") for name, value in response.headers if name.lower() == b"date")
    try:
        return parsedate_to_datetime(next(values, ""))
    except (ValueError, OverflowError):
        return None
