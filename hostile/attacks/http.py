"""Attacks on the gateway's HTTP."""

import asyncio
from collections import Counter

from hostile.attacks.calls import for_seconds
from hostile.target import Target

_CALLERS = 8


async def foreign_host(target: Target) -> str:
    """Requests under a name of an attacker: DNS rebinding."""
    return await _requests(target, "Host: attacker.example\r\n")


async def large_headers(target: Target) -> str:
    """Requests with 60 KB of headers, and with an Accept that could come back in Content-Type."""
    headers = "Host: localhost\r\nAccept: text/plain;escaping=evil\r\n" + f"X-Filler: {'a' * 60_000}\r\n"
    return await _requests(target, headers)


async def _requests(target: Target, headers: str) -> str:
    host, _, port = target.gateway.rpartition(":")
    statuses: Counter[str] = Counter()
    request = f"GET / HTTP/1.1\r\n{headers}\r\n".encode()

    async def call_repeatedly() -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(request)
                line = await reader.readline()
                writer.transport.abort()
            except OSError:
                line = b""
            statuses[line.decode("latin-1").split(" ")[1] if b" " in line else "closed"] += 1

    await for_seconds(target.seconds, [call_repeatedly() for _ in range(_CALLERS)])
    return ", ".join(f"{count}x {status}" for status, count in sorted(statuses.items()))
