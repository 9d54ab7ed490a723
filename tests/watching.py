"""Watchers, and a server that has small limits and answers Watch alone, for the streams of both services."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar, cast

from prometheus_client import CollectorRegistry

from awoooi.client.watching import AsyncWatch
from servicekit.database.engine import create_engine
from servicekit.database.keys import get_key
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from servicekit.rpc.page_tokens import PageTokens
from servicekit.rpc.role_table import RoleTable
from servicekit.rpc.server_builder import ServerBuilder
from servicekit.rpc.status_codes import ErrorTable
from servicekit.watch.change_table import ChangeTable
from servicekit.watch.epoch import Epochs
from servicekit.watch.feed import MAX_CHANGES, Feed
from servicekit.watch.source import ChangeSource
from servicekit.watch.tailer import BACKPRESSURE_TIMEOUT, Tailer
from servicekit.watch.use_cases import HEARTBEAT, WatchUseCase
from tests.services import TIMEOUT_SECONDS


class Response(Protocol):
    """What a Watch responds with in both contracts."""

    resume_token: str

    def HasField(self, field_name: Any, /) -> bool:  # noqa: N802 - of protobuf
        """Whether the field is set."""


R = TypeVar("R", bound=Response)


@dataclass(frozen=True)
class WatchServer:
    """Its address, the feed of its watchers, and the event that stops it as SIGTERM does."""

    address: str
    feed: Feed[Any]
    stop: asyncio.Event


@dataclass(frozen=True)
class WatchedService:
    """What the watch server needs of a service."""

    name: str
    add: Callable[[Any, Any], None]
    # The handler of its RPCs, of which only Watch is called.
    servicer: Callable[[WatchUseCase[Any, Any, Any], PageTokens], Any]
    errors: ErrorTable
    roles: RoleTable


@asynccontextmanager
async def watch_server(
    database_url: str,
    source: ChangeSource[Any, Any, Any],
    service: WatchedService,
    *,
    heartbeat: timedelta = HEARTBEAT,
    max_watchers: int = 100,
    max_changes: int = MAX_CHANGES,
    backpressure_timeout: timedelta = BACKPRESSURE_TIMEOUT,
) -> AsyncIterator[WatchServer]:
    """A real server over the database, in this process, that only watches; others write."""
    engine = create_engine(database_url, application_name="tests-watch", pool_size=5)
    page_tokens = PageTokens()
    async with engine.connect() as connection:
        page_tokens.key = await get_key(connection, "page_tokens")
    transactions = Transactions(engine, Outbox())
    feed: Feed[Any] = Feed(max_watchers=max_watchers, max_changes=max_changes)
    epochs = Epochs(transactions, cast("ChangeTable", source.table))
    use_case = WatchUseCase(transactions, source, feed, epochs, reads=transactions, heartbeat=heartbeat)
    server = (
        ServerBuilder(
            "127.0.0.1:0",
            errors=service.errors,
            registry=CollectorRegistry(),
            roles=service.roles,
            reflection_enabled=False,
        )
        .add(service.add, service.servicer(use_case, page_tokens), service.name)
        .build()
    )
    stop = asyncio.Event()
    await server.start()
    tailer = Tailer(transactions, source, feed, epochs, backpressure_timeout=backpressure_timeout)
    tailing = asyncio.create_task(tailer.run(stop))
    try:
        yield WatchServer(server.address, feed, stop)
    finally:
        stop.set()
        await server.stop()
        tailing.cancel()
        await asyncio.gather(tailing, return_exceptions=True)
        await engine.dispose()


@dataclass
class Watcher(Generic[R]):
    """A stream and its responses so far."""

    stream: AsyncWatch[R]
    # The field of a response that has what happened.
    content: str
    responses: list[R] = field(default_factory=list)

    @property
    def token(self) -> str:
        """The latest resume token."""
        return self.responses[-1].resume_token

    @property
    def changes(self) -> Sequence[R]:
        """The responses with content."""
        return [response for response in self.responses if response.HasField(self.content)]

    async def read(self) -> R:
        """The next response. Raises the error that the stream ends with."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            response = await anext(self.stream)
        self.responses.append(response)
        return response

    async def change(self) -> R:
        """The next response that has content."""
        while not (response := await self.read()).HasField(self.content):
            pass
        return response

    async def begin(self) -> None:
        """Read up to the first response with a token."""
        while not (await self.read()).resume_token:
            pass
