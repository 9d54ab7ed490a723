"""Responses that are serialized item by item are, byte for byte, what the whole message would be."""

import asyncio
import time

import pytest

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.rpc.event_loop_turns import SLICE_SECONDS
from servicekit.rpc.serialized import SerializedResponse, with_items


def incident(number: int) -> incident_pb2.Incident:
    # From an empty message to one whose length needs three bytes.
    return incident_pb2.Incident(title="x" * (number**3))


@pytest.mark.parametrize("count", [0, 1, 30])
async def test_the_bytes_are_those_of_the_whole_message(count: int) -> None:
    response: object = await with_items(
        pb.ListResponse(next_page_token="next"), "incidents", range(count), incident
    )
    assert isinstance(response, SerializedResponse)
    whole = pb.ListResponse(next_page_token="next", incidents=map(incident, range(count)))
    assert response.content == whole.SerializeToString(deterministic=True)
    assert pb.ListResponse.FromString(response.content) == whole


async def test_the_event_loop_serves_others_while_a_page_is_made() -> None:
    turns = 0
    seen: list[int] = []

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def convert(item: int) -> incident_pb2.Incident:
        until = time.perf_counter() + 2 * SLICE_SECONDS
        while time.perf_counter() < until:
            pass
        seen.append(turns)
        return incident(item)

    others = asyncio.create_task(count_turns())
    await with_items(pb.ListResponse(), "incidents", range(5), convert)
    others.cancel()
    assert seen == sorted(set(seen)), "the loop turned between two"
