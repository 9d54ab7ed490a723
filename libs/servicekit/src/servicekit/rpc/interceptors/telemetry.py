"""Counts and times every RPC, under the names that go-grpc-prometheus made usual."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram

from servicekit.process.log_sampling import serve_peer
from servicekit.rpc.admission import address_of
from servicekit.rpc.context import Context
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior

# From a local replay (well below a millisecond) to the cap on deadlines.
_BUCKETS_SECONDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)


class TelemetryLayer:
    """Records `grpc_server_handled_total` and `grpc_server_handling_seconds` by service, method and code."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("grpc_service", "grpc_method")
        self._handled = Counter(
            "grpc_server_handled",
            "RPCs completed by this process, of any status code.",
            (*labels, "grpc_code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time from the request read to the response handed over, streams whole.",
            labels,
            buckets=_BUCKETS_SECONDS,
            registry=registry,
        )

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Record the call."""
        call = _Recorder(self._handled, self._seconds, method)

        async def behavior(request: Any, context: Context) -> Any:
            started = time.perf_counter()
            serve_peer(address_of(context.peer()))
            try:
                response = await inner(request, context)
            except BaseException as exc:
                call.failed(started, context, exc)
                raise
            call.handled(started, grpc.StatusCode.OK)
            return response

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Record the stream when it ends."""
        call = _Recorder(self._handled, self._seconds, method)

        async def behavior(request: Any, context: Context) -> AsyncIterator[Any]:
            started = time.perf_counter()
            serve_peer(address_of(context.peer()))
            try:
                async for response in inner(request, context):
                    yield response
            except BaseException as exc:
                call.failed(started, context, exc)
                raise
            call.handled(started, grpc.StatusCode.OK)

        return behavior


class _Recorder:
    """One method's series, looked up once."""

    def __init__(self, handled: Counter, seconds: Histogram, method: str) -> None:
        _, service, name = method.split("/", 2)
        self._handled = {
            code: handled.labels(grpc_service=service, grpc_method=name, grpc_code=code.name)
            for code in grpc.StatusCode
        }
        self._seconds = seconds.labels(grpc_service=service, grpc_method=name)

    def handled(self, started: float, code: grpc.StatusCode) -> None:
        self._handled[code].inc()
        self._seconds.observe(time.perf_counter() - started)

    def failed(self, started: float, context: Context, exc: BaseException) -> None:
        # grpc.aio sets no code when the caller hangs up or its deadline passes: the handler is only cancelled.
        code: object = context.code()
        if isinstance(exc, asyncio.CancelledError | GeneratorExit):
            remaining: float | None = context.time_remaining()
            expired = remaining is not None and remaining <= 0
            self.handled(started, grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED)
        else:
            self.handled(started, code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN)
