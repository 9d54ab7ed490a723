"""Puts layers around what generated code registers."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn, Protocol, TypeAlias, cast

import grpc
import grpc.aio

from servicekit.rpc.context import Context
from servicekit.rpc.refusals import RefusalMetrics

METADATA: Final = "metadata"

# gRPC counts 32 bytes besides the texts of each entry, so a block within its limit of 16 KiB has fewer. What has more are
# headers without end, whose connection was closed.
_MAX_METADATA_ENTRIES: Final = 512

Handlers: TypeAlias = "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"


class Wrapper(Protocol):
    """Puts something around the handlers of methods."""

    def around(
        self, method: str, handler: "grpc.RpcMethodHandler[Any, Any]"
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return the handler of `method` (`/package.Service/Method`) with it around."""


class Registration:
    """Stands in for the server in a generated `add_…Servicer_to_server`, with `wrapper` around every handler.

    All of it goes to the server as generic handlers: with registered methods grpc.aio keeps one request for each open and
    waits for all of them anew at every call, which costs a tenth of a whole call on a service of fifteen methods. An
    interceptor would look up the handler at every call; here it is composed once.
    """

    def __init__(self, server: grpc.aio.Server, wrapper: Wrapper, metrics: RefusalMetrics) -> None:
        self._server = server
        self._wrapper = wrapper
        self._metrics = metrics
        metrics.declare((METADATA,))

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Leave them: what generated code gives here comes as registered methods once more."""

    def add_registered_method_handlers(self, service_name: str, handlers: Handlers) -> None:
        """Add the methods of a service by its full name."""
        wrapped = {
            method: self._wrapper.around(f"/{service_name}/{method}", handler)
            for method, handler in handlers.items()
        }
        handler = grpc.method_handlers_generic_handler(service_name, wrapped)
        self._server.add_generic_rpc_handlers((_BoundedMetadata(handler, self._metrics),))


class _BoundedMetadata(grpc.GenericRpcHandler):
    """Refuses a call with too many entries of metadata, before any layer looks at them: gRPC makes them anew at each look."""

    def __init__(self, inner: grpc.GenericRpcHandler, metrics: RefusalMetrics) -> None:
        self._inner = inner
        self._metrics = metrics

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return the handler of a method."""
        if len(handler_call_details.invocation_metadata) > _MAX_METADATA_ENTRIES:
            self._metrics.refused(METADATA)
            return _TOO_MUCH_METADATA
        return self._inner.service(handler_call_details)


async def _refuse(_requests: object, context: Context) -> NoReturn:
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much metadata")


_TOO_MUCH_METADATA: "Final[grpc.RpcMethodHandler[Any, Any]]" = grpc.stream_unary_rpc_method_handler(
    cast(Any, _refuse), None, None
)
