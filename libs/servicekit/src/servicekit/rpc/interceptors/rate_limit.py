"""Limits how many calls per second one identity makes."""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import grpc

from servicekit.identity.identity import PERSONAL
from servicekit.rpc.context import Context
from servicekit.rpc.identity import current_identity
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior
from servicekit.rpc.refusals import RefusalMetrics
from servicekit.rpc.status_details import RpcError, RpcStatus

LIMIT = "calls_per_second"
# Those of most callers at once; beyond it the one that called longest ago begins anew.
_MAX_IDENTITIES = 10_000


class RateLimitLayer:
    """A token bucket for each identity, filled with `per_second`, holding twice as many."""

    def __init__(
        self, per_second: int, metrics: RefusalMetrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """0 per second: no limit."""
        self._per_second = per_second
        self._metrics = metrics
        self._clock = clock
        # How many calls are left, and when that was.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        metrics.declare((LIMIT,))

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Refuse the call beyond the limit."""
        if not self._per_second:
            return inner

        async def behavior(request: Any, context: Context) -> Any:
            self._take()
            return await inner(request, context)

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Refuse the stream beyond the limit."""
        if not self._per_second:
            return inner

        async def behavior(request: Any, context: Context) -> AsyncIterator[Any]:
            self._take()
            async for response in inner(request, context):
                yield response

        return behavior

    def _take(self) -> None:
        """Take one call from the caller's bucket. Raises RpcError when it is empty."""
        identity = current_identity()
        if identity.method not in PERSONAL:
            return
        most = 2.0 * self._per_second
        now = self._clock()
        left, when = self._buckets.pop(identity.name, (most, now))
        left = min(most, left + (now - when) * self._per_second)
        refused = left < 1.0
        self._buckets[identity.name] = (left if refused else left - 1.0, now)
        if len(self._buckets) > _MAX_IDENTITIES:
            self._buckets.popitem(last=False)
        if refused:
            self._metrics.refused(LIMIT)
            raise RpcError(_too_many((1.0 - left) / self._per_second))


def _too_many(seconds: float) -> RpcStatus:
    return RpcStatus(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "this identity makes too many calls per second, try again",
        "TOO_MANY_CALLS_PER_SECOND",
        retry_after=timedelta(seconds=seconds),
    )
