"""Puts layers around what generated code registers."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import grpc
import grpc.aio

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

    def __init__(self, server: grpc.aio.Server, wrapper: Wrapper) -> None:
        self._server = server
        self._wrapper = wrapper

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Leave them: what generated code gives here comes as registered methods once more."""

    def add_registered_method_handlers(self, service_name: str, handlers: Handlers) -> None:
        """Add the methods of a service by its full name."""
        wrapped = {
            method: self._wrapper.around(f"/{service_name}/{method}", handler)
            for method, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service_name, wrapped),))
