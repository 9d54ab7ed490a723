"""The other side of the ratios: a bare grpc.aio server that answers Resolve without doing anything.

A program of its own: `python -m benchmarks.echo_server`. It reads the serialized ResolveResponse that it is to answer
from standard input and prints its address. No interceptor, no limit, no database; one generic handler, which is the fastest:
fifteen registered methods cost grpc.aio a tenth of each call.
"""

import sys
from typing import Any

import grpc
import grpc.aio
import uvloop

from awoooi.incident.v1 import incident_service_pb2 as pb
from benchmarks.incidents import RESOLVE_PATH
from servicekit.process.signals import stop_event


async def serve(response: pb.ResolveResponse) -> None:
    """Serve until SIGTERM."""
    stop = stop_event()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])

    async def resolve(_request: pb.ResolveRequest, _context: object) -> pb.ResolveResponse:
        """Return the message; gRPC serializes it each time, as the service does its own."""
        return response

    # The stubs describe the threaded server; here the behavior is a coroutine function.
    behavior: Any = resolve
    handler = grpc.unary_unary_rpc_method_handler(
        behavior, pb.ResolveRequest.FromString, pb.ResolveResponse.SerializeToString
    )
    service, method = RESOLVE_PATH.strip("/").split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
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
