"""Gives heavy reads places of their own, so that they never keep other calls from the database."""

from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any

from servicekit.database.errors import is_too_long
from servicekit.rpc.admission import address_of
from servicekit.rpc.context import Context
from servicekit.rpc.current_read_place import set_read_place
from servicekit.rpc.event_loop_turns import Turns, set_turns
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior
from servicekit.rpc.read_places import ReadPlaces


class ReadLayer:
    """Runs heavy reads in places, and their slices in turns. The innermost layer: a refused request takes no place."""

    def __init__(self, places: ReadPlaces, turns: Turns) -> None:
        self._places = places
        self._turns = turns
        self._methods: set[str] = set()

    def add(self, methods: Iterable[str]) -> None:
        """Declare methods (`/package.Service/Method`) as heavy reads, before they are registered."""
        self._methods.update(methods)

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Run a heavy read in a place. What the database ends for its length is the caller's error, not an outage."""
        if method not in self._methods:
            return self._other(inner)

        async def behavior(request: Any, context: Context) -> Any:
            set_turns(self._turns)
            async with self._places.place(address_of(context.peer())):
                try:
                    return await inner(request, context)
                except Exception as exc:
                    if is_too_long(exc):
                        raise self._places.too_long() from exc
                    raise

        return behavior

    def _other(self, inner: UnaryBehavior) -> UnaryBehavior:
        turns = self._turns

        async def behavior(request: Any, context: Context) -> Any:
            turns.begin()
            try:
                return await inner(request, context)
            finally:
                turns.end()

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Let the stream have places for what it reads: one for each page, not for as long as it is open."""

        async def behavior(request: Any, context: Context) -> AsyncIterator[Any]:
            set_read_place(partial(self._places.place, address_of(context.peer()), is_bounded=False))
            try:
                async for response in inner(request, context):
                    yield response
            except Exception as exc:
                if is_too_long(exc):
                    raise self._places.too_long() from exc
                raise

        return behavior
