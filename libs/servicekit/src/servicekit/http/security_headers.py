"""Headers with which a browser gives nothing of a response to another site, and runs nothing in it."""

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

# For responses that are no page; a page sets its own policy. No Strict-Transport-Security: it would hold for every port of
# the host, those of other programs included.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def with_security_headers(send: Send) -> Send:
    """Return `send`, with these headers where a response has none of the name."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
