"""The checks of one gRPC service: address, TLS, health, reflection, identity, version, migrations, clock."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import grpc.aio
from cryptography import x509
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from awoooi.client import CallError
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from flywheel.doctor.checks import Check, CheckFailedError
from flywheel.doctor.deployment import Deployment

_EXPIRES_SOON = timedelta(days=7)
# More than clocks that are synchronized differ, and much less than what leases and expiries bear.
_MAX_SKEW = timedelta(seconds=2)
# A slow read of the stats is answered by the previous one.
_MAX_DATABASE_SKEW = timedelta(seconds=10)
_STATS = "awoooi.flywheel.v1.FlywheelStatsService"


class ServiceChecks:
    """The checks of one service; what one finds the later ones use."""

    def __init__(self, deployment: Deployment, name: str, target: str, *, version: str) -> None:
        """`version` is the one that is expected: of this command."""
        self._deployment = deployment
        self._name = name
        self._target = target
        self._version = version
        self._services = (f"awoooi.{name}.v1.{name.capitalize()}Service", _STATS)
        self._certificate: x509.Certificate | None = None
        self._stats = GetFlywheelStatsResponse()
        self._asked = (0.0, 0.0)

    def checks(self) -> Sequence[Check]:
        """Return the checks, in the order in which they are reported."""

        def check(kind: str, run: Callable[[], Awaitable[str]], *needs: str) -> Check:
            return Check(f"{self._name}.{kind}", run, [f"{self._name}.{each}" for each in needs])

        return [
            check("address", partial(self._deployment.connect, self._target)),
            check("tls", self._tls, "address"),
            check("certificate", self._check_certificate, "tls"),
            check("health", self._health, "tls"),
            check("reflection", self._reflection, "health"),
            check("identity", self._identity, "health"),
            check("version", self._check_version, "identity"),
            check("migrations", self._migrations, "identity"),
            check("clock", self._clock, "identity"),
        ]

    async def _tls(self) -> str:
        deployment = self._deployment
        if not deployment.is_encrypted:
            return "plain text: --ca-file was not given"
        host, port = deployment.host_port(self._target)
        context = deployment.ssl_context()
        context.set_alpn_protocols(["h2"])
        try:
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
        except ssl.SSLCertVerificationError as exc:
            raise CheckFailedError(
                f"the certificate is refused: {exc.verify_message}",
                "give the authority that signed it as --ca-file, call the service by a name that is in its certificate, or"
                " renew it; docs/security.md",
            ) from exc
        except OSError as exc:
            raise CheckFailedError(
                f"no TLS: {exc.strerror or exc}",
                f"set {self._name.upper()}_TLS_CERT_FILE and _TLS_KEY_FILE, or leave --ca-file out; docs/security.md",
            ) from exc
        secured = writer.get_extra_info("ssl_object")
        self._certificate = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True))
        writer.close()
        return str(secured.version())

    async def _check_certificate(self) -> str:
        certificate = self._certificate
        if certificate is None:
            return "none: plain text"
        begins, expires = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        # One that is renewed every hour is never valid for a week.
        if expires - datetime.now(UTC) < min(_EXPIRES_SOON, (expires - begins) / 4):
            raise CheckFailedError(
                f"it expires at {expires:%Y-%m-%d %H:%M} UTC",
                "renew it; the service reads the new one without a restart. docs/security.md",
            )
        return f"valid until {expires:%Y-%m-%d %H:%M} UTC"

    async def _health(self) -> str:
        async with self._deployment.channel(self._target) as channel:
            for service in ("", *self._services):
                status = await self._status(channel, service)
                if status != health_pb2.HealthCheckResponse.SERVING:
                    name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
                    raise CheckFailedError(
                        f"{service or 'the server'} is {name}",
                        f"look at the log of the {self._name} service: its database cannot be reached, is not migrated"
                        f" (`{self._name}-service migrate`), or the process stops",
                    )
        return "SERVING"

    async def _status(self, channel: grpc.aio.Channel, service: str) -> int:
        request = health_pb2.HealthCheckRequest(service=service)
        stub: Any = HealthStub(channel)
        try:
            response = await stub.Check(request, timeout=self._deployment.timeout)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.NOT_FOUND:
                raise CheckFailedError(
                    f"there is no {service} at {self._target}",
                    "the addresses of the services may be exchanged: --incident and --approval",
                ) from exc
            raise CheckFailedError(
                f"{exc.code().name}: {exc.details()}",
                "check that it is a gRPC server, over TLS if and only if --ca-file is given, and whether it requires a"
                " certificate (--cert-file, --key-file)",
            ) from exc
        status: int = response.status
        return status

    async def _reflection(self) -> str:
        async with self._deployment.channel(self._target) as channel:
            stub: Any = ServerReflectionStub(channel)  # type: ignore[arg-type]  # also of an async channel
            call = stub.ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")]),
                timeout=self._deployment.timeout,
                metadata=self._deployment.metadata(),
            )
            try:
                response = await call.read()
            except grpc.aio.AioRpcError as exc:
                if exc.code() is grpc.StatusCode.UNIMPLEMENTED:
                    return f"switched off ({self._name.upper()}_REFLECTION)"
                raise _refused(exc.code(), exc.details() or "") from exc
        if response is grpc.aio.EOF:
            raise CheckFailedError("no answer", f"look at the log of the {self._name} service")
        found = {each.name for each in response.list_services_response.service}
        if missing := sorted({*self._services} - found):
            raise CheckFailedError(
                f"{', '.join(missing)} is not there", "check what listens at this address, and its version"
            )
        return f"{len(found)} services"

    async def _identity(self) -> str:
        async with self._deployment.channel(self._target) as channel:
            before = time.time()
            try:
                self._stats = await self._deployment.stats(channel).get_flywheel_stats()
            except CallError as exc:
                raise _refused(exc.code, exc.message) from exc
            self._asked = (before, time.time())
        if unusable := len(self._stats.server.unusable_identity_sources):
            raise CheckFailedError(
                f"{unusable} of what identities are verified by cannot be used",
                f"look for identity_source in the log of the {self._name} service: the file of tokens, the roles, or the keys"
                " of the identity provider; docs/security.md",
            )
        return (
            "a token"
            if self._deployment.token_file
            else "a certificate"
            if self._deployment.cert_file
            else "no credentials"
        )

    async def _check_version(self) -> str:
        found = self._stats.server.version
        if not found:
            raise CheckFailedError("it does not say its version: it is an older one", "finish the upgrade")
        if found != self._version:
            raise CheckFailedError(
                f"{found}; this command is {self._version}",
                "finish the upgrade: all services and this command are to be of one version",
            )
        return found

    async def _migrations(self) -> str:
        server = self._stats.server
        database, code = server.database_revision, server.code_revision
        if not code:
            raise CheckFailedError(
                "it does not say its revision: it is an older version", "finish the upgrade"
            )
        if database < code:
            raise CheckFailedError(
                f"the database is at revision {database}, the service needs {code}",
                f"run `{self._name}-service migrate`; it is safe beside the version before",
            )
        if database > code:
            raise CheckFailedError(
                f"the database is at revision {database}, newer than the service's {code}",
                "finish the upgrade: a process of the version before still runs",
            )
        return f"revision {database}"

    async def _clock(self) -> str:
        server = self._stats.server
        if not server.HasField("process_time"):
            raise CheckFailedError("it does not say its time: it is an older version", "finish the upgrade")
        there = server.process_time.ToDatetime(UTC)
        earliest, latest = (datetime.fromtimestamp(moment, UTC) for moment in self._asked)
        # Within the call there is no telling.
        skew = max(there - latest, earliest - there, timedelta(0))
        if skew > _MAX_SKEW:
            raise CheckFailedError(
                f"the clock of the service and this one differ by {skew.total_seconds():.1f} s",
                "synchronize the clocks (chrony, systemd-timesyncd): leases, expiries and tokens are by them",
            )
        of_database = abs(there - self._stats.read_time.ToDatetime(UTC))
        if of_database > _MAX_DATABASE_SKEW:
            raise CheckFailedError(
                f"the clock of the service and that of its database differ by {of_database.total_seconds():.1f} s",
                "synchronize the clocks; when they are, the database is overloaded: the service answers with older stats",
            )
        return f"within {max(skew, timedelta(milliseconds=1)).total_seconds():.3f} s"


def _refused(code: grpc.StatusCode, message: str) -> CheckFailedError:
    """Return a call that was refused, with what to do."""
    advice = {
        grpc.StatusCode.UNAUTHENTICATED: "give a token that the services know (--token-file), or a certificate; docs/security.md",
        grpc.StatusCode.PERMISSION_DENIED: "give the caller the role operator; docs/security.md#roles",
    }.get(code, "look at the log of the service, and at its database")
    return CheckFailedError(f"{code.name}: {message}", advice)
