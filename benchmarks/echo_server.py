"""The other side of the ratios: a bare grpc.aio server that answers Resolve without doing anything.

A program of its own: `python -m benchmarks.echo_server`. It reads the serialized ResolveResponse that it is to answer
from standard input and prints its address. No interceptor, no limit, no database.
"""

import sys

import grpc.aio
import uvloop

from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1 import incident_service_pb2_grpc
from servicekit.process.signals import stop_event


class EchoServicer(incident_service_pb2_grpc.IncidentServiceServicer):
    """Answers every Resolve with one message."""

    def __init__(self, response: pb.ResolveResponse) -> None:
        self._response = response

    async def Resolve(  # noqa: N802 - the contract's name
        self,
        request: pb.ResolveRequest,
        context: "grpc.aio.ServicerContext[pb.ResolveRequest, pb.ResolveResponse]",
    ) -> pb.ResolveResponse:
        """Return the message; gRPC serializes it each time, as it does the service's."""
        return self._response


async def serve(response: pb.ResolveResponse) -> None:
    """Serve until SIGTERM."""
    stop = stop_event()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    incident_service_pb2_grpc.add_IncidentServiceServicer_to_server(EchoServicer(response), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await stop.wait()
    await server.stop(0)


def main() -> None:
    """Run the server."""
    uvloop.run(serve(pb.ResolveResponse.FromString(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
