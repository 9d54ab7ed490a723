"""Readiness probes of started services."""

import http.client
import socket
from collections.abc import Callable

from flywheel.stack.addresses import Address
from flywheel.stack.protection import OwnCertificate

Probe = Callable[[Address], bool]

_TIMEOUT_SECONDS = 2.0


def grpc_is_serving(address: Address, certificate: OwnCertificate | None = None) -> bool:
    """Whether the health check of the gRPC server returns SERVING; over TLS when it has a certificate."""
    if not _accepts(address):
        return False
    import grpc  # noqa: PLC0415 - takes 0.1 s, while the services start
    from cryptography import x509  # noqa: PLC0415 - as above
    from grpc_health.v1 import health_pb2  # noqa: PLC0415 - as above

    # A proxy in the environment does not apply to local services.
    options: list[tuple[str, int | str]] = [("grpc.enable_http_proxy", 0)]
    if certificate is None:
        opened = grpc.insecure_channel(str(address), options=options)
    else:
        try:
            credentials, name = certificate.channel_arguments()
        except (OSError, ValueError, LookupError, x509.ExtensionNotFound):
            # The service itself says what is wrong with it.
            return False
        opened = grpc.secure_channel(str(address), credentials, options=[*options, name])
    with opened as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            response = check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
    return response.status == health_pb2.HealthCheckResponse.SERVING


def http_is_ready(address: Address, certificate: OwnCertificate | None = None) -> bool:
    """Whether the HTTP server responds to `GET /-/ready` with 200; over TLS when it has a certificate."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_TIMEOUT_SECONDS)
    try:
        if certificate is not None:
            connection = http.client.HTTPSConnection(
                address.host, address.port, timeout=_TIMEOUT_SECONDS, context=certificate.context()
            )
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _accepts(address: Address) -> bool:
    """Whether a server listens: a refused connection is seen immediately, where a gRPC channel would retry."""
    try:
        with socket.create_connection((address.host, address.port), timeout=_TIMEOUT_SECONDS):
            return True
    except OSError:
        return False
