"""The services that have figures, asked when somebody scrapes and only then."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import grpc
import grpc.aio
import structlog

from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as pb
from awoooi.flywheel.v1.flywheel_stats_service_pb2_grpc import FlywheelStatsServiceStub
from metrics_gateway.settings import SourceAddress
from metrics_gateway.sources.validation import NonsenseError, check_answer
from servicekit.rpc.channel import open_channel

_log = structlog.get_logger()

_SERVICE = pb.DESCRIPTOR.services_by_name["FlywheelStatsService"].full_name
View = pb.GetFlywheelStatsRequest.View
# One replica may have gone away since the last scrape; the second attempt goes to another.
_ATTEMPTS = 2
# A scrape waits this much longer than its request may take, so that it learns and counts why the request failed.
_SETTLE_SECONDS = 0.05
_LONGEST_DETAIL = 200


class Reason(StrEnum):
    """Why a source could not be read: the closed set of the label `reason`."""

    UNAVAILABLE = "unavailable"  # No connection, or it broke, or the source has no database.
    DEADLINE = "deadline"  # No answer in time.
    INVALID_ANSWER = "invalid_answer"  # An answer that the contract rules out.
    UNIMPLEMENTED = "unimplemented"  # Something else listens there, or a version that keeps no figures.
    PERMISSION = "permission"  # The source does not let this gateway read.
    INTERNAL = "internal"  # The source failed; its own log says why.
    OTHER = "other"


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


@dataclass(frozen=True, slots=True)
class Reading:
    """What one scrape learnt about one source."""

    source: str
    # None when the source is down: it failed, did not answer in time, or answered nonsense.
    answer: pb.GetFlywheelStatsResponse | None
    # How long the scrape waited, in seconds.
    duration_seconds: float
    # When the source last answered well, in seconds since 1970; 0 if never.
    last_success_timestamp: float
    # Failed attempts since the gateway started.
    errors: Mapping[Reason, int]
    # Why the latest request that ended failed; None if it was answered well, or none has ended.
    failing: Reason | None = None
    # When requests began to end like the latest one, in seconds since 1970; 0 if none has ended.
    since_timestamp: float = 0.0


class Source:
    """One service behind one channel.

    At most one request of each view is on its way, whoever and how many wait for it. It belongs to the source, not to the scrape that
    started it: a scrape that gives up or goes away ends its own waiting and nothing else.

    Circuit breaker: while the latest request hung until its deadline, scrapes wait only `hung_patience` seconds. Each
    still sends a request if none is on its way, so a source that has recovered is seen by the first scrape that it
    answers within that time, and by the one after it otherwise. How soon it can be reached again is the channel's
    business: about a second after a connection was refused, about fifteen after one vanished without a word.
    """

    def __init__(self, address: SourceAddress, *, shortest_deadline: float, hung_patience: float) -> None:
        """Open the channel; nothing is sent before the first scrape. Must be called inside the running event loop.

        A request's deadline is its scrape's, but never below `shortest_deadline` seconds: one impatient caller does not
        make the source look ill to the others.
        """
        self._name = address.name
        self._shortest_deadline = shortest_deadline
        self._hung_patience = hung_patience
        self._channel = open_channel(address.target, [_SERVICE], max_attempts=_ATTEMPTS)
        self._stub = FlywheelStatsServiceStub(self._channel)
        self._requests: dict[View.ValueType, asyncio.Task[pb.GetFlywheelStatsResponse | None]] = {}
        self._failing: Reason | None = None
        self._errors: Counter[Reason] = Counter()
        self._last_success_timestamp = 0.0
        self._since_timestamp = 0.0

    async def read(self, deadline: float, view: View.ValueType) -> Reading:
        """Wait at most `deadline` seconds for an answer that is given while this waits. Never raises for the source."""
        started = time.monotonic()
        request = self._requests.get(view)
        if request is None:
            request = asyncio.create_task(self._ask(view, max(deadline, self._shortest_deadline)))
            self._requests[view] = request
        patience = deadline + _SETTLE_SECONDS
        if self._failing is Reason.DEADLINE:
            patience = min(patience, self._hung_patience)
        await asyncio.wait({request}, timeout=patience)
        return Reading(
            source=self._name,
            answer=request.result() if request.done() else None,
            duration_seconds=time.monotonic() - started,
            last_success_timestamp=self._last_success_timestamp,
            errors=self._errors.copy(),
            failing=self._failing,
            since_timestamp=self._since_timestamp,
        )

    async def close(self) -> None:
        """Give up what is on its way and close the channel."""
        for request in self._requests.values():
            request.cancel()
        await self._channel.close()

    async def _ask(self, view: View.ValueType, deadline: float) -> pb.GetFlywheelStatsResponse | None:
        try:
            request = pb.GetFlywheelStatsRequest(view=view)
            answer = check_answer(await self._stub.GetFlywheelStats(request, timeout=deadline))
        except grpc.aio.AioRpcError as exc:
            self._failed(_REASONS.get(exc.code(), Reason.OTHER), f"{exc.code().name}: {exc.details()}")
        except NonsenseError as exc:
            self._failed(Reason.INVALID_ANSWER, str(exc))
        except Exception as exc:
            self._failed(Reason.OTHER, type(exc).__name__)
        else:
            self._succeeded()
            return answer
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
                detail=detail[:_LONGEST_DETAIL],
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
        """Ask all sources at once and return their readings within about `deadline` seconds, whatever they do."""
        return await asyncio.gather(*(source.read(deadline, view) for source in self._sources))

    async def close(self) -> None:
        """Close all channels."""
        await asyncio.gather(*(source.close() for source in self._sources))
