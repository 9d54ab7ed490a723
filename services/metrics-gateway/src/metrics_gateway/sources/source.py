"""Reads the sources on demand, once per scrape or page view; nothing is polled or cached."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence

import grpc
import grpc.aio
import structlog

from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as pb
from awoooi.flywheel.v1.flywheel_stats_service_pb2_grpc import FlywheelStatsServiceStub
from metrics_gateway.settings import SourceAddress
from metrics_gateway.sources.reading import Reading, Reason
from metrics_gateway.sources.validation import InvalidResponseError, validate_response
from servicekit.rpc.channel import ChannelTls, open_channel

_log = structlog.get_logger()

_SERVICE = pb.DESCRIPTOR.services_by_name["FlywheelStatsService"].full_name
View = pb.GetFlywheelStatsRequest.View
# One replica may have gone away since the last scrape; the second attempt goes to another.
_ATTEMPTS = 2
# A scrape waits this much longer than its request's deadline, so that it sees and counts why the request failed.
_SETTLE_SECONDS = 0.05
_MAX_DETAIL = 200

_REASONS = {
    grpc.StatusCode.UNAVAILABLE: Reason.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE,
    grpc.StatusCode.UNIMPLEMENTED: Reason.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED: Reason.PERMISSION,
    grpc.StatusCode.PERMISSION_DENIED: Reason.PERMISSION,
    grpc.StatusCode.INTERNAL: Reason.INTERNAL,
    grpc.StatusCode.UNKNOWN: Reason.INTERNAL,
    grpc.StatusCode.DATA_LOSS: Reason.INTERNAL,
}


class Source:
    """One service behind one channel.

    At most one request of each view is in flight; concurrent readers share it. It belongs to the source, not to the
    reader that started it: a reader that times out or is cancelled ends its own wait and nothing else.

    Circuit breaker: while the latest request timed out, readers wait only `hung_timeout` seconds. Each still sends a
    request if none is in flight, so a source that has recovered is seen by the first reader if it responds within that
    time, and by the next one otherwise. Reconnecting is up to the channel: about one second after a refused connection,
    about fifteen after one that vanished silently.
    """

    def __init__(
        self,
        address: SourceAddress,
        *,
        min_deadline: float,
        hung_timeout: float,
        tls: ChannelTls | None = None,
    ) -> None:
        """Open the channel; nothing is sent before the first read. Must be called inside the running event loop.

        A request's deadline is its reader's, but never below `min_deadline` seconds: one reader with a short timeout
        must not make the source look down to the others.
        """
        self._name = address.name
        self._min_deadline = min_deadline
        self._hung_timeout = hung_timeout
        self._channel = open_channel(address.target, [_SERVICE], max_attempts=_ATTEMPTS, tls=tls)
        self._stub = FlywheelStatsServiceStub(self._channel)
        self._requests: dict[View.ValueType, asyncio.Task[pb.GetFlywheelStatsResponse | None]] = {}
        self._failing: Reason | None = None
        self._errors: Counter[Reason] = Counter()
        self._last_success_timestamp = 0.0
        self._since_timestamp = 0.0

    async def read(self, deadline: float, view: View.ValueType) -> Reading:
        """Wait at most `deadline` seconds for a response. A failure of the source is in the reading, never raised."""
        started = time.monotonic()
        request = self._requests.get(view)
        if request is None:
            request = asyncio.create_task(self._request(view, max(deadline, self._min_deadline)))
            self._requests[view] = request
        timeout = deadline + _SETTLE_SECONDS
        if self._failing is Reason.DEADLINE:
            timeout = min(timeout, self._hung_timeout)
        await asyncio.wait({request}, timeout=timeout)
        return Reading(
            source=self._name,
            response=request.result() if request.done() else None,
            duration_seconds=time.monotonic() - started,
            last_success_timestamp=self._last_success_timestamp,
            errors=self._errors.copy(),
            failing=self._failing,
            since_timestamp=self._since_timestamp,
        )

    async def close(self) -> None:
        """Cancel the requests in flight and close the channel."""
        for request in self._requests.values():
            request.cancel()
        await self._channel.close()

    async def _request(self, view: View.ValueType, deadline: float) -> pb.GetFlywheelStatsResponse | None:
        try:
            request = pb.GetFlywheelStatsRequest(view=view)
            response = validate_response(await self._stub.GetFlywheelStats(request, timeout=deadline))
        except grpc.aio.AioRpcError as exc:
            self._failed(_REASONS.get(exc.code(), Reason.OTHER), f"{exc.code().name}: {exc.details()}")
        except InvalidResponseError as exc:
            self._failed(Reason.INVALID_RESPONSE, str(exc))
        except Exception as exc:
            self._failed(Reason.OTHER, type(exc).__name__)
        else:
            self._succeeded()
            return response
        finally:
            del self._requests[view]
        return None

    def _failed(self, reason: Reason, detail: str) -> None:
        self._errors[reason] += 1
        if self._failing is None:
            self._since_timestamp = time.time()
        if reason is not self._failing:
            _log.warning(
                "prometheus_metrics_flywheel_error",
                source=self._name,
                reason=reason.value,
                detail=detail[:_MAX_DETAIL],
            )
        self._failing = reason

    def _succeeded(self) -> None:
        now = time.time()
        if self._failing is not None or not self._last_success_timestamp:
            self._since_timestamp = now
        self._last_success_timestamp = now
        if self._failing is not None:
            _log.info("prometheus_metrics_flywheel_recovered", source=self._name)
        self._failing = None


class Sources:
    """All configured sources, in the order of the configuration."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = tuple(sources)

    async def read(self, deadline: float, view: View.ValueType = View.VIEW_BASIC) -> Sequence[Reading]:
        """Read all sources concurrently; returns within about `deadline` seconds in any case."""
        return await asyncio.gather(*(source.read(deadline, view) for source in self._sources))

    async def close(self) -> None:
        """Close all channels."""
        await asyncio.gather(*(source.close() for source in self._sources))
