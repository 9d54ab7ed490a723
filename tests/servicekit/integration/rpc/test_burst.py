"""A burst of calls that arrive faster than the event loop takes them: each is answered, as far as the limits go."""

import asyncio
from collections import Counter
from typing import Any

import grpc

from tests.servicekit.scripted_server import SERVICE, scripted_server

# Below the limits of a connection and of a peer; more than gRPC keeps for a server by default before it cancels some at random.
CONNECTIONS, CALLS = 5, 240
TIMEOUT_SECONDS = 60.0


def code_of(call: Any) -> grpc.StatusCode:
    call.exception(TIMEOUT_SECONDS)
    return call.code()  # type: ignore[no-any-return]


async def test_no_call_of_a_burst_is_cancelled() -> None:
    async with scripted_server() as running:
        channels = [
            grpc.insecure_channel(running.server.address, options=[("grpc.use_local_subchannel_pool", 1)])
            for _ in range(CONNECTIONS)
        ]
        try:
            # A method that is not there has the quickest answer.
            methods: list[Any] = [channel.unary_unary(f"/{SERVICE}/Unknown") for channel in channels]
            for channel in channels:
                await asyncio.to_thread(grpc.channel_ready_future(channel).result, TIMEOUT_SECONDS)
            # Threads of gRPC send and receive meanwhile; the event loop, which would take the calls, does not run.
            calls = [method.future(b"", timeout=TIMEOUT_SECONDS) for _ in range(CALLS) for method in methods]
            codes = await asyncio.to_thread(lambda: Counter(map(code_of, calls)))
        finally:
            for channel in channels:
                channel.close()
    assert codes == {grpc.StatusCode.UNIMPLEMENTED: CONNECTIONS * CALLS}
