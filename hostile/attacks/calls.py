"""Attacks by calls that any gRPC client can make."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from hostile.target import LARGE_SEVERITY, LIST, RESOLVE, SEARCH, Target

_TIMEOUT_SECONDS = 20.0
# `severities` of ListRequest: many numbers that name none.
_ENUMS = 1_040_000
_LISTS = 10
_SEARCHES = 20
_RESOLVES = 64
_SEVEN_BITS = 0x7F


async def bad_enums(target: Target) -> str:
    """One List of 1 MiB after the other, of enum numbers that do not exist."""
    number = pb.ListRequest.DESCRIPTOR.fields_by_name["severities"].number
    size = target.number(_ENUMS)
    message = bytes((number << 3 | 2,)) + _varint(size) + b"\x63" * size
    return await _repeat(target, LIST, [message], callers=1)


async def large_pages(target: Target) -> str:
    """Lists, ten at a time, over incidents of 138 KB."""
    message = pb.ListRequest(page_size=1000, severities=[LARGE_SEVERITY]).SerializeToString()
    return await _repeat(target, LIST, [message], callers=target.number(_LISTS))


async def heavy_searches(target: Target) -> str:
    """Searches, twenty at a time, each for as many words as a query can hold."""
    words = " ".join(f"w{number % 97}" for number in range(250))
    message = pb.SearchKnowledgeRequest(query=words[:1024]).SerializeToString()
    return await _repeat(target, SEARCH, [message], callers=target.number(_SEARCHES))


async def unknown_ids(target: Target) -> str:
    """Resolves of incidents that do not exist, 64 at a time, one after the other."""
    messages = [
        pb.ResolveRequest(
            incident_id=f"INC-20200101-{number:06X}", resolution_type=incident_pb2.RESOLUTION_TYPE_NO_ACTION
        ).SerializeToString()
        for number in range(1_000)
    ]
    return await _repeat(target, RESOLVE, messages, callers=target.number(_RESOLVES))


async def _repeat(target: Target, path: str, messages: Sequence[bytes], *, callers: int) -> str:
    """Call `path` again and again, with so many callers, and return how often each status was the answer."""
    codes: Counter[str] = Counter()
    async with _channel(target.incident) as channel:
        method: Any = channel.unary_unary(path)

        async def call_repeatedly(caller: int) -> None:
            number = caller
            while True:
                try:
                    await method(messages[number % len(messages)], timeout=_TIMEOUT_SECONDS)
                    codes["OK"] += 1
                except grpc.aio.AioRpcError as exc:
                    codes[exc.code().name] += 1
                number += callers

        await for_seconds(target.seconds, [call_repeatedly(number) for number in range(callers)])
    return ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))


async def for_seconds(seconds: float, work: Sequence[Coroutine[None, None, None]]) -> None:
    """Run coroutines together for so long, then cancel them. What one raises is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


@asynccontextmanager
async def _channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield channel


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > _SEVEN_BITS:
        parts.append(number & _SEVEN_BITS | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
