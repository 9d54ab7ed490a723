"""Timeouts of the kubernetes executor."""

import asyncio
from contextlib import suppress
from pathlib import Path

from tests.approval.unit.executors.kubernetes.cases import DELETE, RESTART, failure, run
from tests.approval.unit.executors.kubernetes.cluster_faults import hang, meanwhile
from tests.approval.unit.executors.kubernetes.cluster_server import ClusterServer
from tests.approval.unit.executors.kubernetes.objects import ending, pod
from tests.services import TIMEOUT_SECONDS


async def out_of_time(cluster: ClusterServer, folder: Path, action: str, wanted: str) -> str:
    """The message of a run that timed out; a slow machine gets more time, until the run has come as far as is wanted."""
    for seconds in (3, 10):
        said = await failure(cluster, folder, action, seconds=seconds)
        if wanted in said:
            return said
    return await failure(cluster, folder, action, seconds=TIMEOUT_SECONDS)


async def test_a_rollout_that_does_not_get_healthy_times_out_with_its_last_status(
    cluster: ClusterServer, tmp_path: Path
) -> None:
    cluster.steps.append({"replicas": 4, "updatedReplicas": 1, "availableReplicas": 3})
    said = await out_of_time(cluster, tmp_path, RESTART, "1 of 3")
    head, _, last = said.partition(" within ")
    assert head == "restarted deployment/web in namespace shop, but it was not done"
    assert last.endswith(" s: 1 of 3 replicas updated")


async def test_a_pod_that_does_not_end_times_out_with_its_last_status(
    cluster: ClusterServer, tmp_path: Path
) -> None:
    cluster.after_delete[0] = ending(pod())
    said = await out_of_time(cluster, tmp_path, DELETE, "still")
    assert said.endswith(" s: it is still ending")


async def test_a_timeout_before_the_response_to_a_change_says_that_it_may_have_happened(
    cluster: ClusterServer, tmp_path: Path
) -> None:
    cluster.fail("PATCH", "deployments", *[hang] * 3)
    said = await out_of_time(cluster, tmp_path, RESTART, "may have")
    assert said.startswith("the cluster did not answer within ")
    assert said.endswith(" s: it may have happened")


async def test_a_timeout_before_the_change_says_that_nothing_was_changed(
    cluster: ClusterServer, tmp_path: Path
) -> None:
    cluster.fail("GET", "deployments", hang)
    said = await failure(cluster, tmp_path, RESTART, seconds=2)
    assert said == "the cluster did not answer within 1 s: nothing was changed"
    assert cluster.changes() == []


async def test_a_cancelled_run_stops_waiting(cluster: ClusterServer, tmp_path: Path) -> None:
    looked = asyncio.Event()
    cluster.fail("GET", "deployments", meanwhile(lambda: None), meanwhile(looked.set))
    cluster.steps.append({"updatedReplicas": 1})
    running = asyncio.create_task(run(cluster, tmp_path, RESTART))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await looked.wait()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    assert running.cancelled()
