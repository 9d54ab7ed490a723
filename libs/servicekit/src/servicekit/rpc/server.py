"""The one server builder: interceptors, health, reflection, limits, graceful stop."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Self

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from servicekit.database.errors import DatabaseUnavailableError
from servicekit.database.failure_log import FailureLog
from servicekit.identity.authenticator import Authenticator
from servicekit.process.addresses import require_protection
from servicekit.process.descriptors import usable_connections
from servicekit.rpc.access_log import AccessLog
from servicekit.rpc.admission import PlaceLimits, Places
from servicekit.rpc.audited import AuditedMethods
from servicekit.rpc.caller import Callers, ClaimedCallers, VerifiedCallers
from servicekit.rpc.error_table import ErrorTable
from servicekit.rpc.grpc_log import ignore_lost_connections
from servicekit.rpc.health import HealthServicer
from servicekit.rpc.in_flight import InFlightCalls
from servicekit.rpc.interceptors.audit import AuditedRequestLayer, AuditLayer
from servicekit.rpc.interceptors.authorization import AuthorizationLayer
from servicekit.rpc.interceptors.chain import Chain
from servicekit.rpc.interceptors.deadline import DeadlineLayer
from servicekit.rpc.interceptors.drain import DrainLayer
from servicekit.rpc.interceptors.errors import ErrorLayer
from servicekit.rpc.interceptors.identity import IdentityLayer
from servicekit.rpc.interceptors.rate_limit import RateLimitLayer
from servicekit.rpc.interceptors.reads import ReadLayer
from servicekit.rpc.interceptors.revocation import RevocationLayer
from servicekit.rpc.interceptors.telemetry import TelemetryLayer
from servicekit.rpc.interceptors.validation import ValidationLayer
from servicekit.rpc.open_streams import OpenStreams
from servicekit.rpc.own_services import OwnServices
from servicekit.rpc.read_places import ReadLimits, ReadPlaces
from servicekit.rpc.received import ReceivedBytes, ReceivedLimits
from servicekit.rpc.reflection import add_reflection
from servicekit.rpc.refusals import RefusalMetrics
from servicekit.rpc.registration import Registration
from servicekit.rpc.role_table import RoleTable
from servicekit.rpc.tls import ServerTls, server_credentials
from servicekit.rpc.turns import Turns
from servicekit.rpc.unsent import UnsentAnswers, UnsentLimits

_log = structlog.get_logger()

# A server that stops ends when no new call has come for so long.
_LAME_DUCK_SECONDS = 0.2


class AddressInUseError(Exception):
    """Another process listens on the address already."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one server takes at most."""

    message_bytes: int = 1 << 20
    metadata_bytes: int = 16 << 10
    # Unary calls; streams, such as Watch; calls and streams of health and reflection. What is beyond them fails with
    # RESOURCE_EXHAUSTED at once. A health watch is made again by its client: the oldest is ended for a new one.
    calls: PlaceLimits = field(default=PlaceLimits(2_000, per_peer=1_500, per_identity=500))
    streams: PlaceLimits = field(default=PlaceLimits(1_000, per_peer=500, per_identity=100))
    own_calls: PlaceLimits = field(default=PlaceLimits(300, per_peer=100, evicts_running=True))
    # Of the unary calls, lists and searches: those that run, and those that wait for that.
    reads: ReadLimits = field(default=ReadLimits())
    # Of any kind, on one connection; those beyond it wait in the client.
    calls_per_connection: int = 250
    # From a call's headers to its request.
    request_time: timedelta = timedelta(seconds=10)
    unsent: UnsentLimits = field(default=UnsentLimits())
    received: ReceivedLimits = field(default=ReceivedLimits())
    # From a connection's beginning to HTTP/2's.
    handshake_time: timedelta = timedelta(seconds=10)
    # A connection without calls is closed; its client opens another with its next call.
    idle_time: timedelta = timedelta(minutes=15)
    connections: int = 1_000
    # How often a client may ping, with or without calls.
    ping_interval: timedelta = timedelta(seconds=5)
    # Calls per second of one person or job, twice as many at once; 0: no limit.
    calls_per_second: int = 500
    # How often the caller of an open stream is verified again.
    verify_streams: timedelta = timedelta(seconds=2)
    # Longest time a unary call may run; a caller's shorter deadline holds besides.
    deadline: timedelta = timedelta(seconds=30)
    # How long calls in flight may go on after SIGTERM.
    drain: timedelta = timedelta(seconds=10)

    @property
    def open_calls(self) -> int:
        """How many calls of all kinds may be open."""
        return self.calls.total + self.streams.total + self.own_calls.total


class ServerBuilder:
    """Collects services, then builds their server."""

    def __init__(
        self,
        address: str,
        *,
        errors: ErrorTable,
        registry: CollectorRegistry,
        roles: RoleTable,
        authenticator: Authenticator | None = None,
        tls: ServerTls | None = None,
        insecure: bool = False,
        reflection_enabled: bool = True,
        limits: ServerLimits | None = None,
        calls: InFlightCalls | None = None,
        audited: AuditedMethods | None = None,
    ) -> None:
        """Prepare a server for `address` (`host:port`; port 0 lets the system choose); without `tls` in plain text.

        `roles` says who may call what; a method that is not in it is refused. Without an `authenticator` a caller has every
        role, and any name that it claims. `calls` counts the unary calls in flight, for background work that is throttled by
        them. `audited` are the methods that leave audit records.

        Raises ExposedWithoutAuthenticationError when `address` is beyond loopback and lacks one of the two, unless
        `insecure` is set.
        """
        require_protection(
            address, insecure=insecure, tls=tls is not None, authenticated=authenticator is not None
        )
        self._address = address
        self._tls = tls
        self._limits = limits or ServerLimits()
        self._reflection_enabled = reflection_enabled
        self._names: list[str] = []
        self._drain = DrainLayer(calls or InFlightCalls())
        metrics = self._metrics = RefusalMetrics(registry)
        unsent = UnsentAnswers(self._limits.unsent, metrics)
        self._received = ReceivedBytes(
            self._limits.received, metrics, message_bytes=self._limits.message_bytes
        )
        places = partial(
            Places,
            metrics=metrics,
            unsent=unsent,
            received=self._received,
            request_time=self._limits.request_time,
        )
        self._own_places = places("own_calls", self._limits.own_calls)
        self._reads = ReadLayer(ReadPlaces(self._limits.reads, metrics), Turns())
        self._access_log = AccessLog(registry)
        self._callers: Callers = (
            ClaimedCallers()
            if authenticator is None
            else VerifiedCallers(
                authenticator, self._access_log, service_of=None if tls is None else tls.service_of
            )
        )
        audit = [] if audited is None else [AuditLayer(audited, errors)]
        audited_request = [] if audited is None else [AuditedRequestLayer(audited)]
        revocation = (
            ()
            if authenticator is None
            else (RevocationLayer(self._callers, roles, self._access_log, every=self._limits.verify_streams),)
        )
        self._chain = Chain(
            # Who calls, and whether they may, is known before the request is read.
            outer=[
                TelemetryLayer(registry),
                ErrorLayer(errors),
                *audit,
                DeadlineLayer(self._limits.deadline),
                IdentityLayer(self._callers),
                # Without credentials a name is the caller's own word.
                RateLimitLayer(0 if authenticator is None else self._limits.calls_per_second, metrics),
                AuthorizationLayer(roles, self._access_log),
                *revocation,
            ],
            inner=[*audited_request, self._drain, ValidationLayer(), self._reads],
            calls=places("calls", self._limits.calls),
            streams=places("streams", self._limits.streams),
        )
        ignore_lost_connections()
        self._server = grpc.aio.server(
            options=[
                # Without this a second server on the same port gets half of the calls, unnoticed by both.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", self._limits.message_bytes),
                ("grpc.max_metadata_size", self._limits.metadata_bytes),
                ("grpc.max_concurrent_streams", self._limits.calls_per_connection),
                ("grpc.server_handshake_timeout_ms", _milliseconds(self._limits.handshake_time)),
                ("grpc.max_connection_idle_ms", _milliseconds(self._limits.idle_time)),
                ("grpc.max_allowed_incoming_connections", usable_connections(self._limits.connections)),
                # A client that pings more often gets GOAWAY. Without the second option gRPC grants a client without calls
                # one ping in two hours.
                (
                    "grpc.http2.min_ping_interval_without_data_ms",
                    _milliseconds(self._limits.ping_interval),
                ),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
            ],
            # Never met but by calls that arrive while others beyond the limits are being refused.
            maximum_concurrent_rpcs=2 * self._limits.open_calls,
        )

    @property
    def refused(self) -> Mapping[str, int]:
        """What each limit has refused, by its name in the series; every limit is there."""
        return self._metrics.counts

    def add(
        self,
        register: Callable[[Any, Any], None],
        servicer: object,
        full_name: str,
        *,
        heavy_reads: Collection[str] = (),
    ) -> Self:
        """Add a service by its generated `add_…Servicer_to_server` function and its full protobuf name.

        `heavy_reads` names its methods whose cost grows with what is stored: they run in places of their own.
        """
        self._reads.add(f"/{full_name}/{method}" for method in heavy_reads)
        register(servicer, Registration(self._server, self._chain, self._metrics))
        self._names.append(full_name)
        return self

    def build(self) -> "Server":
        """Add health and reflection and return the server, not yet listening."""
        health = HealthServicer()
        streams = OpenStreams()
        own = Registration(
            self._server,
            OwnServices(self._own_places, streams, self._callers, self._access_log),
            self._metrics,
        )
        health_pb2_grpc.add_HealthServicer_to_server(health, own)  # type: ignore[arg-type]  # as a server to the generated code
        if self._reflection_enabled:
            health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
            add_reflection(own, (*self._names, health_name))
        return Server(
            self._server,
            health,
            self._drain,
            streams,
            self._address,
            received=self._received,
            tls=self._tls,
            names=("", *self._names),
            drain_time=self._limits.drain,
        )


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
    ) -> None:
        self._server = server
        self._health = health
        self._names = names
        self._drain = drain
        self._streams = streams
        self._received = received
        self._drain_seconds = drain_time.total_seconds()
        self._serving: bool | None = None
        self.address = address
        self.mtls_address = tls.mtls_address if tls is not None else None
        self._tls = tls

    async def start(self) -> None:
        """Listen. The addresses are the real ones from here on.

        Raises AddressInUseError when a port is taken.
        """
        await self.set_serving(False)
        protection: dict[str, object] = {}
        if self._tls is None:
            self.address = self._listen(self.address, None)
        else:
            required = self._tls.requires_client_certificate
            self.address = self._listen(
                self.address, server_credentials(self._tls.certificates, require_client_certificate=required)
            )
            protection = {"tls": True, "client_certificate_required": required}
        if self._tls is not None and self.mtls_address is not None:
            self.mtls_address = self._listen(
                self.mtls_address, server_credentials(self._tls.certificates, require_client_certificate=True)
            )
            protection["mtls_address"] = self.mtls_address
        await self._server.start()
        ports = {_port(address) for address in (self.address, self.mtls_address) if address is not None}
        self._received.start(ports)
        _log.info("serving", address=self.address, **protection)

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> str:
        """Add an address and return the real one."""
        host = address.rpartition(":")[0]
        try:
            if credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as exc:
            raise AddressInUseError(address) from exc
        return f"{host}:{port}"

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
        self._received.stop()


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)


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
