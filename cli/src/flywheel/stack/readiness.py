"""How a started service is asked whether it is ready."""

import http.client
import socket
from collections.abc import Callable

from flywheel.stack.addresses import Address

Probe = Callable[[Address], bool]

_TIMEOUT_SECONDS = 2.0


def grpc_is_serving(address: Address) -> bool:
    """Tell whether the gRPC server answers its health check with SERVING."""
    if not _accepts(address):
        return False
    import grpc  # noqa: PLC0415 - a tenth of a second, and the services are starting meanwhile
    from grpc_health.v1 import health_pb2  # noqa: PLC0415 - as above

    # A proxy named in the environment is for the world outside.
    with grpc.insecure_channel(str(address), options=[("grpc.enable_http_proxy", 0)]) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def http_is_ready(address: Address) -> bool:
    """Tell whether the HTTP server answers `GET /-/ready` with 200."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _accepts(address: Address) -> bool:
    """Tell whether someone listens: a refused connection shows at once, where a gRPC channel would wait and retry."""
    try:
        with socket.create_connection((address.host, address.port), timeout=_TIMEOUT_SECONDS):
            return True
    except OSError:
        return False
