"""A gRPC server that runs: its addresses, its health, its graceful stop."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

import grpc
import grpc.aio
import structlog

from servicekit.database.errors import DatabaseUnavailableError
from servicekit.database.failure_log import FailureLog
from servicekit.rpc.health import LIVENESS, HealthServicer
from servicekit.rpc.interceptors.drain import DrainLayer
from servicekit.rpc.open_streams import OpenStreams
from servicekit.rpc.received_bytes import ReceivedBytes
from servicekit.rpc.tls import ServerTls, server_credentials

_log = structlog.get_logger()

# A server that stops ends when no new call has come for so long.
_LAME_DUCK_SECONDS = 0.2


class AddressInUseError(Exception):
    """Another process listens on the address already."""

    def __init__(self, address: str, *, setting: str = "LISTEN") -> None:
        """`setting` ends the name of the variable with the address."""
        super().__init__(address)
        self.setting = setting


class Server:
    """A gRPC server with its health. NOT_SERVING until `set_serving(True)`."""

    def __init__(
        self,
        server: grpc.aio.Server,
        health: HealthServicer,
        drain: DrainLayer,
        streams: OpenStreams,
        address: str,
        *,
        received: ReceivedBytes,
        tls: ServerTls | None,
        names: tuple[str, ...],
        drain_time: timedelta,
        probes: grpc.aio.Server | None = None,
        health_address: str | None = None,
    ) -> None:
        self._server = server
        self._health = health
        self._names = names
        self._drain = drain
        self._streams = streams
        self._received = received
        self._drain_seconds = drain_time.total_seconds()
        self._serving: bool | None = None
        self._probes = probes
        self.health_address = health_address
        self.address = address
        self.mtls_address = tls.mtls_address if tls is not None else None
        self._tls = tls

    async def start(self) -> None:
        """Listen. The addresses are the real ones from here on.

        Raises AddressInUseError when a port is taken.
        """
        await self.set_serving(False)
        self._health.set(LIVENESS, serving=True)
        protection: dict[str, object] = {}
        if self._tls is None:
            self.address = _listen(self._server, self.address, None)
        else:
            required = self._tls.requires_client_certificate
            self.address = _listen(
                self._server,
                self.address,
                server_credentials(self._tls.certificates, require_client_certificate=required),
            )
            protection = {"tls": True, "client_certificate_required": required}
        if self._tls is not None and self.mtls_address is not None:
            self.mtls_address = _listen(
                self._server,
                self.mtls_address,
                server_credentials(self._tls.certificates, require_client_certificate=True),
                setting="MTLS_LISTEN",
            )
            protection["mtls_address"] = self.mtls_address
        if self._probes is not None and self.health_address is not None:
            self.health_address = _listen(self._probes, self.health_address, None, setting="HEALTH_LISTEN")
            protection["health_address"] = self.health_address
            await self._probes.start()
        await self._server.start()
        addresses = (self.address, self.mtls_address, self.health_address)
        self._received.start({_port(address) for address in addresses if address is not None})
        _log.info("serving", address=self.address, **protection)

    async def set_serving(self, serving: bool) -> None:
        """Report to health checks whether the server can do its work now."""
        if serving is self._serving:
            return
        self._serving = serving
        for name in self._names:
            self._health.set(name, serving=serving)
        _log.info("health_changed", serving=serving)

    async def stop(self) -> None:
        """Refuse new calls, let calls in flight finish within the drain time, then end them."""
        self._health.stop()
        loop = asyncio.get_running_loop()
        until = loop.time() + self._drain_seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._drain.drain(min(_LAME_DUCK_SECONDS, self._drain_seconds))
        self._streams.end()
        await self._server.stop(max(0.0, until - loop.time()))
        if self._probes is not None:
            await self._probes.stop(None)
        self._received.stop()


def _listen(
    server: grpc.aio.Server,
    address: str,
    credentials: grpc.ServerCredentials | None,
    *,
    setting: str = "LISTEN",
) -> str:
    """Add an address and return the real one."""
    host = address.rpartition(":")[0]
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as exc:
        raise AddressInUseError(address, setting=setting) from exc
    return f"{host}:{port}"


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


async def watch_health(server: Server, ready: Callable[[], Awaitable[bool]], *, every: timedelta) -> None:
    """Set the server's health from `ready` until cancelled. A check that fails or takes too long means not ready."""
    failures = FailureLog("health_check_failed", logs_connecting=True)
    while True:
        try:
            async with asyncio.timeout(max(every.total_seconds(), 1.0)):
                serving = await ready()
        except TimeoutError:
            failures.failed(DatabaseUnavailableError("the health check had no answer in time"))
            serving = False
        except Exception as exc:
            failures.failed(exc)
            serving = False
        else:
            failures.succeeded()
        await server.set_serving(serving)
        await asyncio.sleep(every.total_seconds())
