"""`python -m servicekit.healthcheck HOST:PORT`: exits 0 when the gRPC server there is SERVING, 1 when it is not.

For container health checks, which have no other gRPC client at hand.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

_TIMEOUT_SECONDS = 3.0
_EXIT_USAGE = 2


def is_serving(target: str) -> bool:
    """Return whether the server at `target` is SERVING within three seconds."""
    # A proxy in the environment, which Docker may put into every container, is for other targets.
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            response: health_pb2.HealthCheckResponse = HealthStub(channel).Check(  # type: ignore[attr-defined]  # the stubs forgot it
                health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_SECONDS
            )
        except grpc.RpcError:
            return False
    return response.status == health_pb2.HealthCheckResponse.SERVING


def main(arguments: list[str]) -> int:
    """Return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m servicekit.healthcheck HOST:PORT", file=sys.stderr)  # noqa: T201 - a command
        return _EXIT_USAGE
    return 0 if is_serving(arguments[0]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
