"""uvicorn inside this process: our event loop, our signal handling, our log."""

import asyncio
import contextlib
import errno
import logging
import math
import socket
from collections.abc import Iterator

import structlog
import uvicorn
from starlette.types import ASGIApp

_log = structlog.get_logger()

# Prometheus keeps its connection open between scrapes, up to some minutes.
_KEEP_ALIVE_SECONDS = 180
# Further concurrent connections get 503: memory stays bounded.
_CONNECTIONS = 1_000
_HEADER_BYTES = 16 << 10
_BACKLOG = 1_024


class CannotListenError(Exception):
    """The address cannot be listened on."""


class HttpServer:
    """Serves one application on one address."""

    def __init__(self, app: ASGIApp, address: str, *, drain_seconds: float) -> None:
        """Bind `address` (`host:port`; port 0 lets the system choose).

        `drain_seconds` is how long requests in flight may continue once serving ends. Raises CannotListenError, with the
        cause, when the address is in use or not one of this machine's.
        """
        self._socket = _listen(address)
        host = address.rpartition(":")[0]
        # With the actual port in place of 0.
        self.address = f"{host}:{self._socket.getsockname()[1]}"
        # Without a line for every port scanner that speaks no HTTP; errors stay.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._server = _Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                limit_concurrency=_CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=math.ceil(drain_seconds),
                h11_max_incomplete_event_size=_HEADER_BYTES,
            )
        )

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then let requests in flight finish within the drain time."""
        serving = asyncio.create_task(self._server.serve([self._socket]))
        stopping = asyncio.create_task(stop.wait())
        _log.info("serving", address=self.address)
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        _log.info("stopping")
        self._server.should_exit = True
        await serving
        _log.info("stopped")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers: the process has its own."""
        yield


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        family, _, _, _, where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        return socket.create_server(where[:2], family=family, backlog=_BACKLOG)
    except UnicodeError as exc:
        raise CannotListenError(f"cannot listen on {address}: not a host name") from exc
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise CannotListenError(f"{address} is in use by another process") from exc
        raise CannotListenError(f"cannot listen on {address}: {exc.strerror}") from exc
