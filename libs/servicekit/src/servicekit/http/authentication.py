"""Who is answered: requests without good credentials are answered with 401 or 403."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import TypeAlias

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit.http.limits import HttpRefusals
from servicekit.process.addresses import is_loopback

_CHALLENGES = ('Bearer realm="flywheel"', 'Basic realm="flywheel", charset="UTF-8"')


class Decision(Enum):
    """Whether a request is passed on."""

    ALLOWED = None
    UNAUTHENTICATED = HTTPStatus.UNAUTHORIZED
    FORBIDDEN = HTTPStatus.FORBIDDEN
    UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request brings to prove who sends it."""

    # Of `Authorization: Bearer`, or the password of `Authorization: Basic`, which is what a browser can send.
    token: str
    # Whether the client has shown a certificate, which was verified.
    has_certificate: bool
    # Whether the request cannot be read on the way: TLS, or the same machine.
    is_private: bool


Decide: TypeAlias = Callable[[Presented], Awaitable[Decision]]
_NO_PATHS: Mapping[str, Decide] = {}


class Authentication:
    """Asks `decide` about each request but those for an open path, and for a path in `others` the one that is there."""

    def __init__(
        self,
        app: ASGIApp,
        decide: Decide,
        refusals: HttpRefusals,
        *,
        open_paths: Collection[str] = (),
        others: Mapping[str, Decide] = _NO_PATHS,
    ) -> None:
        self._app = app
        self._decide = decide
        self._others = others
        self._refusals = refusals
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        path = scope["path"]
        decision = Decision.ALLOWED
        if path not in self._open_paths:
            decision = await self._others.get(path, self._decide)(_presented(scope))
        if decision is Decision.ALLOWED:
            await self._app(scope, receive, send)
            return
        self._refusals.add("authentication")
        response = PlainTextResponse(
            f"{decision.value.phrase}\n", status_code=decision.value, headers={"Cache-Control": "no-store"}
        )
        if decision is Decision.UNAUTHENTICATED:
            for challenge in _CHALLENGES:
                response.headers.append("WWW-Authenticate", challenge)
        await response(scope, receive, send)


def _presented(scope: Scope) -> Presented:
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    token = _token(values[0]) if len(values) == 1 else ""
    tls = scope.get("extensions", {}).get("tls", {})
    host = (scope.get("client") or ("",))[0]
    return Presented(
        token,
        has_certificate=tls.get("client_cert_name") is not None,
        is_private=scope["scheme"] == "https" or is_loopback(f"{host}:0"),
    )


def _token(header: bytes) -> str:
    scheme, _, value = header.decode("latin-1").strip().partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
