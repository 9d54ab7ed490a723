"""The one server builder: interceptors, health, reflection, limits."""

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Self

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from servicekit.identity.authenticator import Authenticator
from servicekit.process.addresses import require_protection
from servicekit.process.descriptors import usable_connections
from servicekit.rpc.access_log import AccessLog
from servicekit.rpc.admission import Places
from servicekit.rpc.audited import AuditedMethods
from servicekit.rpc.caller import Callers, ClaimedCallers, VerifiedCallers
from servicekit.rpc.event_loop_turns import Turns
from servicekit.rpc.grpc_log import ignore_lost_connections
from servicekit.rpc.health import HealthServicer
from servicekit.rpc.health_and_reflection import OwnServices
from servicekit.rpc.in_flight import InFlightCalls
from servicekit.rpc.interceptors.abort import ErrorLayer
from servicekit.rpc.interceptors.audit import AuditedRequestLayer, AuditLayer
from servicekit.rpc.interceptors.authorization import AuthorizationLayer
from servicekit.rpc.interceptors.chain import Chain
from servicekit.rpc.interceptors.deadline import DeadlineLayer
from servicekit.rpc.interceptors.drain import DrainLayer
from servicekit.rpc.interceptors.identity import IdentityLayer
from servicekit.rpc.interceptors.rate_limit import RateLimitLayer
from servicekit.rpc.interceptors.reads import ReadLayer
from servicekit.rpc.interceptors.revocation import RevocationLayer
from servicekit.rpc.interceptors.telemetry import TelemetryLayer
from servicekit.rpc.interceptors.validation import ValidationLayer
from servicekit.rpc.open_streams import OpenStreams
from servicekit.rpc.probes import probe_server
from servicekit.rpc.read_places import ReadPlaces
from servicekit.rpc.received_bytes import ReceivedBytes
from servicekit.rpc.reflection import add_reflection
from servicekit.rpc.refusals import RefusalMetrics
from servicekit.rpc.registration import Registration
from servicekit.rpc.role_table import RoleTable
from servicekit.rpc.server import Server
from servicekit.rpc.server_limits import ServerLimits
from servicekit.rpc.status_codes import ErrorTable
from servicekit.rpc.tls import ServerTls
from servicekit.rpc.unsent_responses import UnsentResponses


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
        health_address: str | None = None,
        reflection_enabled: bool = True,
        limits: ServerLimits | None = None,
        calls: InFlightCalls | None = None,
        audited: AuditedMethods | None = None,
    ) -> None:
        """Prepare a server for `address` (`host:port`; port 0 lets the system choose); without `tls` in plain text.

        `roles` says who may call what; a method that is not in it is refused. Without an `authenticator` a caller has every
        role, and any name that it claims. `health_address` is a second address, where health alone is served, in plain text and
        to everyone. `calls` counts the unary calls in flight, for background work that is throttled by
        them. `audited` are the methods that leave audit records.

        Raises ExposedWithoutAuthenticationError when `address` is beyond loopback and lacks one of the two, unless
        `insecure` is set.
        """
        require_protection(
            address, insecure=insecure, tls=tls is not None, authenticated=authenticator is not None
        )
        self._address = address
        self._tls = tls
        self._health_address = health_address
        self._limits = limits or ServerLimits()
        self._reflection_enabled = reflection_enabled
        self._names: list[str] = []
        self._drain = DrainLayer(calls or InFlightCalls())
        metrics = self._metrics = RefusalMetrics(registry)
        unsent = UnsentResponses(self._limits.unsent, metrics)
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
                # Calls that have arrived and that the event loop has not taken yet: as many as may be open, by the limits
                # that are counted here. Beyond a thousand gRPC itself would cancel some, of any caller, at random.
                ("grpc.server.max_pending_requests", 2 * self._limits.open_calls),
                ("grpc.server.max_pending_requests_hard_limit", 2 * self._limits.open_calls),
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
                *_age(self._limits.connection_age),
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
        probes = None
        if self._health_address is not None:
            probes = probe_server()
            probed = Registration(
                probes,
                OwnServices(self._own_places, streams, self._callers, self._access_log),
                self._metrics,
            )
            health_pb2_grpc.add_HealthServicer_to_server(health, probed)  # type: ignore[arg-type]  # as above
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
            probes=probes,
            health_address=self._health_address,
        )


def _age(age: timedelta | None) -> list[tuple[str, int]]:
    return [] if age is None else [("grpc.max_connection_age_ms", _milliseconds(age))]


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
