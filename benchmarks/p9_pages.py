"""P9: how long a page of List takes far from the first, against the first."""

from collections.abc import Sequence

import grpc.aio

from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceStub
from benchmarks.errors import BenchmarkError
from benchmarks.lab import Lab
from benchmarks.load import make_load
from benchmarks.result import Goal, Result, Side
from benchmarks.stored import much_and_little, serving
from benchmarks.turns import Effort

_LIST_PATH = "/awoooi.incident.v1.IncidentService/List"
_PAGE_SIZE = 50
_CALL_SECONDS = 30.0


async def measure(lab: Lab, effort: Effort) -> Sequence[Result]:
    """Measure in turns: a fifth of `effort.calls_one_caller` calls each, one at a time."""
    calls = max(effort.calls_one_caller // 5, 2)
    async with much_and_little(lab, effort) as (stored, _), serving(lab, stored) as (services,):
        address = services.incident.address
        lab.step(f"P9: turning {effort.pages} pages")
        first = pb.ListRequest(page_size=_PAGE_SIZE)
        far = await _page(address, first, effort.pages)
        taken: dict[int, list[float]] = {0: [], 1: []}
        for turn in range(effort.turns + 1):
            lab.step(f"P9: turn {turn} of {effort.turns}")
            for side, request in enumerate((far, first)):
                messages = [request.SerializeToString()] * calls
                with lab.recorder.recording({"incident": services.incident.process.pid} if side == 0 else {}):
                    load = make_load(address, _LIST_PATH, messages, outstanding=1, connections=1)
                # The first turn fills caches and pools.
                if turn > 0:
                    taken[side].append(load.median_latency * 1e3)
    return [
        Result(
            number="P9",
            what=f"List of {stored.amount:,} incidents, page {effort.pages:,} of {_PAGE_SIZE} each",
            against="page 1",
            goal=Goal.AT_MOST,
            limit=1.3,
            sides=[Side(f"page {effort.pages:,}", "ms", taken[0]), Side("page 1", "ms", taken[1])],
            ratio_of=lambda sides: sides[0] / sides[1],
        )
    ]


async def _page(address: str, first: pb.ListRequest, number: int) -> pb.ListRequest:
    """Return the request of a page. Raises BenchmarkError when there is none, or an incident comes twice."""
    request, seen = first, set[str]()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = IncidentServiceStub(channel)
        for turned in range(1, number + 1):
            page = await stub.List(request, timeout=_CALL_SECONDS)
            ids = {incident.incident_id for incident in page.incidents}
            if len(ids) != first.page_size or ids & seen:
                raise BenchmarkError(f"page {turned} of {number} has {len(ids - seen)} new incidents")
            if turned == number:
                break
            seen |= ids
            request = pb.ListRequest(page_size=first.page_size, page_token=page.next_page_token)
    return request
