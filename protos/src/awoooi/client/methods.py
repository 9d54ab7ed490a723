"""One method, two clients: described once, it is a coroutine function of an async client and a plain one of a sync client.

A description is a method that returns the call and sends nothing:

    class IncidentMethods:
        @UnaryMethod
        def get(self, incident_id: str, **options: Unpack[CallOptions]) -> Call[Incident]: ...

    class IncidentClient(IncidentMethods, AsyncClient): ...      # await incidents.get("INC-…")
    class SyncIncidentClient(IncidentMethods, SyncClient): ...   # incidents.get("INC-…")

The client that it is looked up on decides, for the type checker and when it runs. Looked up on the class it is the
description itself, with its signature and docstring, as help() shows them.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, overload

from awoooi.client.aio import AsyncClient
from awoooi.client.call import Call, Item, Listing, Page, Response, Result, Stream
from awoooi.client.paging import AsyncPager, SyncPager
from awoooi.client.sync import SyncClient
from awoooi.client.watching import AsyncWatch, SyncWatch

Fields = ParamSpec("Fields")


class UnaryMethod(Generic[Fields, Result]):
    """A method that makes one call and returns its result."""

    def __init__(self, describe: Callable[Concatenate[Any, Fields], Call[Result]]) -> None:
        self._describe = describe

    @overload
    def __get__(self, client: None, owner: object) -> Callable[Concatenate[Any, Fields], Call[Result]]: ...
    @overload
    def __get__(
        self, client: AsyncClient, owner: object
    ) -> Callable[Fields, Coroutine[Any, Any, Result]]: ...
    @overload
    def __get__(self, client: SyncClient, owner: object) -> Callable[Fields, Result]: ...

    def __get__(self, client: AsyncClient | SyncClient | None, owner: object) -> object:
        if client is None:
            return self._describe
        return lambda *args, **fields: client.invoke(self._describe(client, *args, **fields))


class ListMethod(Generic[Fields, Page, Item]):
    """A method that returns a list, to be iterated over."""

    def __init__(self, describe: Callable[Concatenate[Any, Fields], Listing[Page, Item]]) -> None:
        self._describe = describe

    @overload
    def __get__(
        self, client: None, owner: object
    ) -> Callable[Concatenate[Any, Fields], Listing[Page, Item]]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: object) -> Callable[Fields, AsyncPager[Page, Item]]: ...
    @overload
    def __get__(self, client: SyncClient, owner: object) -> Callable[Fields, SyncPager[Page, Item]]: ...

    def __get__(self, client: AsyncClient | SyncClient | None, owner: object) -> object:
        if client is None:
            return self._describe
        return lambda *args, **fields: client.paginate(self._describe(client, *args, **fields))


class WatchMethod(Generic[Fields, Response]):
    """A method that returns a stream, to be iterated over."""

    def __init__(self, describe: Callable[Concatenate[Any, Fields], Stream[Response]]) -> None:
        self._describe = describe

    @overload
    def __get__(
        self, client: None, owner: object
    ) -> Callable[Concatenate[Any, Fields], Stream[Response]]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: object) -> Callable[Fields, AsyncWatch[Response]]: ...
    @overload
    def __get__(self, client: SyncClient, owner: object) -> Callable[Fields, SyncWatch[Response]]: ...

    def __get__(self, client: AsyncClient | SyncClient | None, owner: object) -> object:
        if client is None:
            return self._describe
        return lambda *args, **fields: client.subscribe(self._describe(client, *args, **fields))
