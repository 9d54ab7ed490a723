"""Watch of approvals: slow watchers, the limit of streams, heartbeats."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc.aio
import pytest
from grpc import StatusCode

from awoooi.client import CallError
from tests.approval.integration.racing import SAME, copies
from tests.approval.integration.watch.watching import watch_server, watching
from tests.approval.schemas import rows
from tests.callers import Approvals, Incidents, approvals_at
from tests.rpc_errors import read_refusal, refused
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")
# Fills the flow-control window of gRPC (64 KiB, for that of `narrow_approvals` does not grow) with a few changes.
LARGE = "x" * 8000


@asynccontextmanager
async def narrow_approvals(address: str) -> AsyncIterator[Approvals]:
    """Calls over a channel with a small flow-control window."""
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Approvals(channel)


async def test_a_slow_watcher_is_ended_with_a_resume_token_and_the_others_continue(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    url = approval_service.database_url
    original = await approvals.proposed(await incidents.opened_id(), rationale=LARGE)
    ids = list(await copies(url, original, SAME[:60]))
    async with (
        watch_server(url, max_changes=10) as server,
        narrow_approvals(server.address) as slow_approvals,
        approvals_at(server.address) as fast_approvals,
    ):
        filters = {"incident_id": original.incident_id, "states": ["CANCELLED"]}
        slow = await watching(slow_approvals, **filters)
        fast = await watching(fast_approvals, **filters)
        cancel = "UPDATE approvals SET state = 'CANCELLED', version = version + 1 WHERE approval_id = $1"
        for each in ids:
            await rows(url, cancel, each)
            assert (await fast.change()).approval.approval_id == each
        with pytest.raises(CallError) as caught:
            await slow.until_change_of(ids[-1])
        refusal = read_refusal(caught.value)
        assert (refusal.code, refusal.reason) == (StatusCode.RESOURCE_EXHAUSTED, "WATCHER_TOO_SLOW")
        came = [each.approval.approval_id for each in slow.changes]
        assert came == ids[: len(came)]
        assert 0 < len(came) < len(ids)
        resumed = await watching(fast_approvals, resume_token=refusal.metadata["resume_token"], **filters)
        assert await resumed.until_change_of(ids[-1]) == ids[len(came) :]


async def test_a_stream_above_the_limit_of_the_process_is_refused(approval_service: RunningService) -> None:
    async with (
        watch_server(approval_service.database_url, max_watchers=1) as server,
        approvals_at(server.address) as approvals,
    ):
        first = await watching(approvals)
        refusal = await refused(anext(approvals.watch()))
        assert (refusal.code, refusal.reason) == (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS")
        assert refusal.retry_after_seconds
        first.stream.close()


async def test_an_idle_stream_has_heartbeats_that_it_resumes_from(approval_service: RunningService) -> None:
    async with (
        watch_server(approval_service.database_url, heartbeat=timedelta(milliseconds=20)) as server,
        approvals_at(server.address) as approvals,
    ):
        watcher = await watching(approvals, approval_id="APR-20200101-00000000DEAD")
        for _ in range(3):
            heartbeat = await watcher.read()
            assert not heartbeat.HasField("approval")
            assert heartbeat.resume_token
        await watching(approvals, approval_id="APR-20200101-00000000DEAD", resume_token=watcher.token)
