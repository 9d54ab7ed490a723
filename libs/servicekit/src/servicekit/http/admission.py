"""Which requests are passed on to an application: those with a known host, and headers and a body within the limits."""

import ipaddress
import re
from collections.abc import Sequence
from http import HTTPStatus

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit.http.limits import HttpLimits, HttpRefusals
from servicekit.http.security_headers import with_security_headers

# Names that no public DNS answers for. A page of another site can reach this server under a name of its own (DNS rebinding),
# and then read what it serves; under these, and under addresses, it cannot.
_LOCAL_SUFFIXES = (".localhost", ".internal", ".svc", ".svc.cluster.local")
_ONE_LABEL = re.compile(r"[a-z0-9_-]+")
_PORT = re.compile(r":[0-9]{1,5}$")
_LENGTH_DIGITS = 20


class AllowedHosts:
    """The hosts that a request may name: addresses, names without a dot, names of a cluster, and those of the settings."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        """`names` are host names; `*.` before one stands for every name below it, `*` alone for every host."""
        self._all = "*" in names
        self._exact = {name.lower() for name in names if not name.startswith("*")}
        self._below = tuple(name[1:].lower() for name in names if name.startswith("*."))

    def allow(self, header: str) -> bool:
        """Tell whether a Host header (`name` or `name:port`) is allowed."""
        if self._all:
            return True
        host = _PORT.sub("", header.strip().lower()).removesuffix(".")
        if host in self._exact or host.endswith((*_LOCAL_SUFFIXES, *self._below)):
            return True
        return _is_address(host) or _ONE_LABEL.fullmatch(host) is not None


class Admission:
    """Answers what is not passed on: 421 for another host, 431 for large headers, 413 for a large body."""

    def __init__(self, app: ASGIApp, limits: HttpLimits, refusals: HttpRefusals, hosts: AllowedHosts) -> None:
        self._app = app
        self._limits = limits
        self._refusals = refusals
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        send = with_security_headers(send)
        refused = self._refused(scope)
        if refused is None:
            await self._app(scope, receive, send)
            return
        limit, status, text = refused
        self._refusals.add(limit)
        # What follows on the connection is not read: it may be the body.
        response = PlainTextResponse(f"{text}\n", status_code=status, headers={"Connection": "close"})
        await response(scope, receive, send)

    def _refused(self, scope: Scope) -> tuple[str, HTTPStatus, str] | None:
        headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        size = sum(len(name) + len(value) for name, value in headers) + len(scope["raw_path"])
        if size + len(scope["query_string"]) > self._limits.header_bytes:
            return (
                "header_bytes",
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                "Request Header Fields Too Large",
            )
        for name, value in headers:
            if name == b"host" and not self._hosts.allow(value.decode("latin-1")):
                return "host", HTTPStatus.MISDIRECTED_REQUEST, "This host name is not among the allowed ones."
            if name in (b"transfer-encoding", b"content-length") and self._is_too_large(name, value):
                if self._limits.body_bytes:
                    text = f"A body has at most {self._limits.body_bytes} bytes here."
                else:
                    text = "A request has no body here."
                return "body", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text
        return None

    def _is_too_large(self, name: bytes, value: bytes) -> bool:
        if name == b"transfer-encoding":
            # Its size is not known before it is read (`bodies`).
            return self._limits.body_bytes == 0
        # h11 has refused what is no number, and Python reads none of thousands of digits.
        return len(value) > _LENGTH_DIGITS or int(value) > self._limits.body_bytes


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
