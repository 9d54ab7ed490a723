"""A real gRPC server in front of another: it passes every unary call on, and a test holds or refuses some of them."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
import grpc.aio

from tests.services import TIMEOUT_SECONDS

# Makes the call at the real service.
Forward: TypeAlias = Callable[[], Awaitable[bytes]]
# What happens to one call. Raises RefusedError.
Rule: TypeAlias = Callable[[Forward], Awaitable[bytes]]


class RefusedError(Exception):
    """The call ends with this status."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code.name)
        self.code = code


class Held:
    """A call that is held before it is passed on."""

    def __init__(self) -> None:
        self._received = asyncio.Event()
        self.release = asyncio.Event()

    async def received(self) -> None:
        """Wait until the call is there."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self._received.wait()

    async def __call__(self, forward: Forward) -> bytes:
        """Wait, then pass it on."""
        self._received.set()
        await self.release.wait()
        return await forward()


def refuse(code: grpc.StatusCode) -> Rule:
    """Refuse a call without passing it on."""

    async def rule(_forward: Forward) -> bytes:
        raise RefusedError(code)

    return rule


def lose_the_reply(code: grpc.StatusCode) -> Rule:
    """Pass a call on, and end it with this status."""

    async def rule(forward: Forward) -> bytes:
        await forward()
        raise RefusedError(code)

    return rule


class Front(grpc.GenericRpcHandler):
    """Gives each call of a method the next of its `rules`; it is passed on when there is none left, or none matches."""

    def __init__(self, real: grpc.aio.Channel) -> None:
        self.address = ""
        # By the method's name without its service.
        self.rules: defaultdict[str, deque[Rule]] = defaultdict(deque)
        # Of which calls of a method; by default of all.
        self.of: dict[str, Callable[[bytes], bool]] = {}
        # In place of the caller's own name; empty: none.
        self.actor = ""
        # How many calls of a method had a rule.
        self.ruled: defaultdict[str, int] = defaultdict(int)
        self._real = real

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a method."""
        method: str = handler_call_details.method
        if not method.startswith("/awoooi."):
            # The stream of the health service: without it a client takes the server for healthy.
            return None
        name = method.rpartition("/")[2]

        async def call(request: bytes, context: Any) -> Any:
            metadata = tuple(
                pair for pair in context.invocation_metadata() or () if pair[0].startswith("awoooi")
            )
            if self.actor:
                metadata = (("awoooi-actor", self.actor),)
            real: Any = self._real.unary_unary(method)

            async def forward() -> bytes:
                answer: bytes = await real(request, timeout=TIMEOUT_SECONDS, metadata=metadata)
                return answer

            try:
                if self.rules[name] and self.of.get(name, _every)(request):
                    self.ruled[name] += 1
                    return await self.rules[name].popleft()(forward)
                return await forward()
            except RefusedError as exc:
                await context.abort(exc.code, "scripted")
            except grpc.aio.AioRpcError as exc:
                await context.abort(exc.code(), exc.details() or "", tuple(exc.trailing_metadata() or ()))

        return grpc.unary_unary_rpc_method_handler(call)


def _every(_request: bytes) -> bool:
    return True


@asynccontextmanager
async def front_of(address: str) -> AsyncIterator[Front]:
    """A front of the service at `address`, until the block ends."""
    async with grpc.aio.insecure_channel(address) as channel:
        front = Front(channel)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([front])
        front.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield front
        finally:
            await server.stop(None)
