"""Watchers of approvals, and a server that has small limits and answers Watch alone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

from prometheus_client import CollectorRegistry

from approval.roles import ROLES
from approval.servicer import ApprovalServicer
from approval.status_codes import ERRORS
from approval.watch.changes import Change
from approval.watch.repository import ApprovalChanges
from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from awoooi.approval.v1.approval_service_pb2_grpc import add_ApprovalServiceServicer_to_server
from awoooi.client.watching import AsyncWatch
from servicekit.database.engine import create_engine
from servicekit.database.keys import get_key
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from servicekit.rpc.page_tokens import PageTokens
from servicekit.rpc.server import ServerBuilder
from servicekit.watch.epoch import Epochs
from servicekit.watch.feed import MAX_CHANGES, Feed
from servicekit.watch.tailer import Tailer
from servicekit.watch.use_cases import HEARTBEAT, WatchUseCase
from tests.callers import Approvals
from tests.services import TIMEOUT_SECONDS


@asynccontextmanager
async def watch_server(
    database_url: str,
    *,
    heartbeat: timedelta = HEARTBEAT,
    max_watchers: int = 100,
    max_changes: int = MAX_CHANGES,
) -> AsyncIterator[str]:
    """The address of a real server over the database, in this process, that only watches; others write."""
    engine = create_engine(database_url, application_name="tests-watch", pool_size=5)
    page_tokens = PageTokens()
    async with engine.connect() as connection:
        page_tokens.key = await get_key(connection, "page_tokens")
    transactions = Transactions(engine, Outbox())
    source = ApprovalChanges()
    feed: Feed[Change] = Feed(max_watchers=max_watchers, max_changes=max_changes)
    epochs = Epochs(transactions, source.table)
    unused = cast("Any", None)
    servicer = ApprovalServicer(
        propose=unused,
        approvals=unused,
        execute=unused,
        plan=unused,
        execution_log=unused,
        deliveries=unused,
        reconciler=unused,
        watch=WatchUseCase(transactions, source, feed, epochs, heartbeat=heartbeat),
        page_tokens=page_tokens,
        default_ttl=timedelta(hours=1),
    )
    server = (
        ServerBuilder(
            "127.0.0.1:0",
            errors=ERRORS,
            registry=CollectorRegistry(),
            roles=ROLES,
            reflection_enabled=False,
        )
        .add(add_ApprovalServiceServicer_to_server, servicer, "awoooi.approval.v1.ApprovalService")
        .build()
    )
    stop = asyncio.Event()
    await server.start()
    tailing = asyncio.create_task(Tailer(transactions, source, feed, epochs).run(stop))
    try:
        yield server.address
    finally:
        stop.set()
        await server.stop()
        tailing.cancel()
        await asyncio.gather(tailing, return_exceptions=True)
        await engine.dispose()


def state_name(state: approval_pb2.Approval.State.ValueType) -> str:
    """A state as the contract names it, without the prefix."""
    return approval_pb2.Approval.State.Name(state).removeprefix("STATE_")


@dataclass
class Watcher:
    """A stream and its responses so far."""

    stream: AsyncWatch[pb.WatchResponse]
    responses: list[pb.WatchResponse] = field(default_factory=list)

    @property
    def token(self) -> str:
        """The latest resume token."""
        return self.responses[-1].resume_token

    @property
    def changes(self) -> Sequence[pb.WatchResponse]:
        """The responses with a change."""
        return [response for response in self.responses if response.HasField("change")]

    @property
    def transitions(self) -> Sequence[tuple[str, str]]:
        """The states before and after each change."""
        return [
            (state_name(each.change.state_before), state_name(each.change.state_after))
            for each in self.changes
        ]

    async def read(self) -> pb.WatchResponse:
        """The next response. Raises the error that the stream ends with."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            response = await anext(self.stream)
        self.responses.append(response)
        return response

    async def change(self) -> pb.WatchResponse:
        """The next response that has a change."""
        while not (response := await self.read()).HasField("change"):
            pass
        return response

    async def until_change_of(self, approval_id: str) -> Sequence[str]:
        """Read up to and with a change of this approval; returns the approvals of all changes that came over the stream."""
        while (await self.change()).approval.approval_id != approval_id:
            pass
        return [response.approval.approval_id for response in self.changes]


async def watching(approvals: Approvals, **fields: Any) -> Watcher:
    """A stream with these fields that has begun: its first response with a token was read."""
    watcher = Watcher(approvals.watch(heartbeats=True, **fields))
    while not (await watcher.read()).resume_token:
        pass
    return watcher
