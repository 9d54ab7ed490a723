"""The type of what gRPC gives to a handler with each call."""

from typing import Any, TypeAlias

import grpc.aio

# A string: gRPC's class is generic for the type checker only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
