"""The gRPC health service (grpc.health.v1).

grpc-health's own holds a lock while it writes to a watcher: one that reads nothing would keep the status from every other
watcher, and this process from changing it.
"""

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servicekit.rpc.context import Context

# The name of what is SERVING as long as this process answers, its database or not: for probes that restart a process.
LIVENESS = "liveness"

_Response = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Answers with the status of each service, by its full name; the empty name stands for the server."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {}
        self._stopping = False
        # Set and replaced when a status changes.
        self._changed = asyncio.Event()

    def set(self, name: str, *, serving: bool) -> None:
        """Set whether a service is SERVING, unless the server stops."""
        if self._stopping:
            return
        self._serving[name] = serving
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def stop(self) -> None:
        """Set every service to NOT_SERVING for good, but not `LIVENESS`: a process that drains is well."""
        for name in self._serving:
            if name != LIVENESS:
                self.set(name, serving=False)
        self._stopping = True

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> _Response:  # noqa: N802 - the contract's name
        """Return the status of a service; NOT_FOUND for an unknown one."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return self._status(request.service)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:  # noqa: N802 - the contract's name
        """Send the status of a service, and again after each change; SERVICE_UNKNOWN while it has none."""
        sent: _Response | None = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != sent:
                await context.write(status)
                sent = status
            await changed.wait()

    def _status(self, name: str) -> _Response:
        if name not in self._serving:
            return _Response(status=_Response.SERVICE_UNKNOWN)
        return _Response(status=_Response.SERVING if self._serving[name] else _Response.NOT_SERVING)
