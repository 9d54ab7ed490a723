"""The outbox topics of this service and how each is run, those of notifications excepted."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from approval.delivery.handlers import IncidentResolver, IncidentTimelines, ResolveHandler, TimelineHandler
from approval.delivery.topics import EXECUTE_TOPIC, RESOLVE_TOPIC, TIMELINE_TOPIC
from approval.execution.handler import ExecuteHandler
from approval.execution.use_cases import ExecuteUseCase
from servicekit.outbox.handler import Topic
from servicekit.outbox.transaction import Transactions

# Due resolves are sent as batches of this size; so many calls in flight at a time.
_RESOLVE_BATCH = 100
_RESOLVE_CALLS = 4
# Timeline entries written at a time, each by a call of its own.
_TIMELINE_BATCH = 16


class IncidentService(IncidentResolver, IncidentTimelines, Protocol):
    """The incident service, as far as the outbox needs it."""


def topics(
    transactions: Transactions,
    execute: ExecuteUseCase,
    incidents: IncidentService,
    *,
    resolve_timeout: timedelta,
) -> Sequence[Topic]:
    """Return this service's topics. `resolve_timeout` is the client's own; the handler's is a little longer."""
    return [
        Topic(EXECUTE_TOPIC, ExecuteHandler(execute)),
        Topic(
            TIMELINE_TOPIC,
            TimelineHandler(incidents),
            max_batch=_TIMELINE_BATCH,
            concurrency=2,
            only_requests=True,
            one_target=True,
        ),
        Topic(
            RESOLVE_TOPIC,
            ResolveHandler(transactions, incidents),
            timeout=resolve_timeout + timedelta(seconds=2),
            max_batch=_RESOLVE_BATCH,
            concurrency=_RESOLVE_CALLS,
            only_requests=True,
            one_target=True,
        ),
    ]
