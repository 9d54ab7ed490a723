"""uvicorn inside this process: our event loop, our signal handling, our log."""

import asyncio
import contextlib
import errno
import logging
import math
import socket
from collections.abc import Awaitable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, cast

import structlog
import uvicorn
from starlette.types import ASGIApp

from servicekit.http.admission import Admission, AllowedHosts
from servicekit.http.connections import BoundedConnection, ConnectionPool
from servicekit.http.errors import CannotListenError
from servicekit.http.limits import HttpLimits, HttpRefusals
from servicekit.http.tls import HttpTls
from servicekit.http.tls_listener import TlsListener
from servicekit.process.background import run_until_stopped

_log = structlog.get_logger()

_BACKLOG = 1_024


class HttpServer:
    """Serves one application on one address."""

    def __init__(
        self,
        app: ASGIApp,
        address: str,
        *,
        drain_seconds: float,
        refusals: HttpRefusals,
        hosts: AllowedHosts | None = None,
        limits: HttpLimits | None = None,
        tls: HttpTls | None = None,
    ) -> None:
        """Bind `address` (`host:port`; port 0 lets the system choose).

        `hosts` are those that a request may name, beside local ones. `drain_seconds` is how long requests in flight may
        continue once serving ends. With `tls` nothing else is served. Raises CannotListenError, with the cause, when the address is in use or not one of this machine's.
        """
        self._socket = _listen(address)
        self._has_tls = tls is not None
        host = address.rpartition(":")[0]
        # With the actual port in place of 0.
        self.address = f"{host}:{self._socket.getsockname()[1]}"
        # Without a line for every port scanner that speaks no HTTP; errors stay.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        limits = limits or HttpLimits()
        pool = ConnectionPool(limits, refusals)
        self._server = _Server(
            uvicorn.Config(
                Admission(app, limits, refusals, hosts or AllowedHosts()),
                # uvicorn calls it with its own arguments, as the class that it expects.
                http=cast(Any, partial(BoundedConnection, pool)),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=math.ceil(limits.idle_time.total_seconds()),
                timeout_graceful_shutdown=math.ceil(drain_seconds),
                h11_max_incomplete_event_size=limits.header_bytes,
            ),
            pool,
            tls,
        )

    async def serve_until(
        self, stop: asyncio.Event, background: Mapping[str, Awaitable[None]] = MappingProxyType({})
    ) -> None:
        """Serve until `stop` is set, then let requests in flight finish within the drain time.

        Beside it runs the background work. Raises BackgroundEndedError when a task of it, or serving itself, ends early.
        """
        serving = asyncio.create_task(self._server.serve([self._socket]))
        _log.info("serving", address=self.address, **({"tls": True} if self._has_tls else {}))

        async def drain() -> None:
            self._server.should_exit = True
            await serving

        await run_until_stopped(drain, stop, {"http": asyncio.shield(serving), **background})


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, pool: ConnectionPool, tls: HttpTls | None) -> None:
        super().__init__(config)
        self._pool = pool
        self._tls = tls

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers: the process has its own."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; over TLS with a listener of ours."""
        tls = self._tls
        if tls is None or sockets is None:
            await super().startup(sockets)
            return
        make = partial(
            BoundedConnection,
            self._pool,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        # uvicorn knows no more of its servers than these have.
        self.servers = cast(Any, [TlsListener(each, self._pool, tls, make) for each in sockets])
        self.started = True


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
