"""Failures of the kubernetes executor: rejected changes, lost connections, rollouts that do not progress."""

from pathlib import Path

import pytest

from approval.actions.grammar import parse_action
from approval.executors.protocol import OperationFailedError
from tests.approval.unit.executors.kubernetes.cases import (
    HEALTHY,
    RESTART,
    context,
    executor_for,
    failure,
    run,
)
from tests.approval.unit.executors.kubernetes.cluster_faults import (
    drop,
    drop_answer,
    hang,
    meanwhile,
    no_json,
    status,
)
from tests.approval.unit.executors.kubernetes.cluster_server import (
    TOKEN,
    ClusterServer,
    Fault,
    cluster_server,
)
from tests.approval.unit.executors.kubernetes.objects import deployment, progressing
from tests.echo_receiver import echo_receiver


@pytest.mark.parametrize("refusal", [409, 429])
async def test_a_conflict_or_a_busy_cluster_is_retried(
    cluster: ClusterServer, tmp_path: Path, refusal: int
) -> None:
    cluster.fail("PATCH", "deployments", status(refusal), status(refusal))
    cluster.steps.append(HEALTHY)
    assert (await run(cluster, tmp_path, RESTART)).startswith("restarted deployment/web")
    assert len(cluster.changes()) == 3


async def test_a_conflict_that_does_not_end_fails_after_five_attempts(
    cluster: ClusterServer, tmp_path: Path
) -> None:
    cluster.fail("PATCH", "deployments", *[status(409)] * 9)
    said = await failure(cluster, tmp_path, RESTART)
    assert said == "conflict: deployment/web in namespace shop was changed at the same time"
    assert len(cluster.changes()) == 5


@pytest.mark.parametrize(
    ("method", "fault", "said"),
    [
        pytest.param(
            "GET", status(401), "the cluster does not accept the service's credentials", id="unauthorized"
        ),
        pytest.param(
            "GET",
            status(403),
            "forbidden: the service may not read deployment/web in namespace shop",
            id="forbidden to read",
        ),
        pytest.param(
            "PATCH",
            status(403),
            "forbidden: the service may not patch deployment/web in namespace shop",
            id="forbidden to patch",
        ),
        pytest.param("GET", status(404), "there is no deployment/web in namespace shop", id="not found"),
        pytest.param(
            "PATCH",
            status(422),
            "the cluster refused to patch deployment/web in namespace shop: status 422",
            id="invalid",
        ),
        pytest.param(
            "PATCH",
            status(500),
            "the cluster answered 500 when asked to patch deployment/web in namespace shop: it may have happened",
            id="an error inside",
        ),
        pytest.param(
            "PATCH",
            drop,
            "the connection to the cluster failed when it was asked to patch deployment/web in namespace shop, "
            "ServerDisconnectedError: it may have happened",
            id="dropped",
        ),
        pytest.param(
            "PATCH",
            drop_answer,
            "the connection to the cluster failed when it was asked to patch deployment/web in namespace shop, "
            "ServerDisconnectedError: it may have happened",
            id="done and dropped",
        ),
        pytest.param(
            "PATCH",
            no_json,
            "the cluster's answer to patch deployment/web in namespace shop is no JSON: it may have happened",
            id="a proxy's page",
        ),
    ],
)
async def test_a_rejected_or_lost_change_fails_and_is_not_retried(
    cluster: ClusterServer, tmp_path: Path, method: str, fault: Fault, said: str
) -> None:
    cluster.fail(method, "deployments", fault)
    assert await failure(cluster, tmp_path, RESTART) == said
    assert len(cluster.changes()) == (method == "PATCH")


async def test_a_change_without_a_response_may_have_happened(cluster: ClusterServer, tmp_path: Path) -> None:
    cluster.fail("PATCH", "deployments", hang)
    said = await failure(cluster, tmp_path, RESTART, call_timeout=3)
    assert said == (
        "no answer of the cluster within 3 s when asked to patch deployment/web in namespace shop: "
        "it may have happened"
    )


async def test_a_cluster_that_cannot_be_reached_has_changed_nothing(tmp_path: Path) -> None:
    async with cluster_server() as gone:
        pass
    assert await failure(gone, tmp_path, RESTART) == "cannot connect to the cluster, ClientConnectorError"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(drop, id="a dropped connection"),
        pytest.param(status(503), id="an unavailable server"),
        pytest.param(status(429), id="a busy server"),
    ],
)
async def test_a_failed_read_of_the_rollout_is_retried(
    cluster: ClusterServer, tmp_path: Path, fault: Fault
) -> None:
    def lose_the_next_looks() -> None:
        # aiohttp itself retries a GET whose connection was dropped once.
        cluster.fail("GET", "deployments", *[fault] * 4)

    cluster.fail("PATCH", "deployments", meanwhile(lose_the_next_looks))
    cluster.steps.append(HEALTHY)
    assert (await run(cluster, tmp_path, RESTART)).startswith("restarted deployment/web")
    assert cluster.faults == []
    assert len(cluster.changes()) == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(status(404), "there is no deployment/web in namespace shop", id="removed"),
        pytest.param(
            status(403),
            "forbidden: the service may not read deployment/web in namespace shop",
            id="forbidden",
        ),
    ],
)
async def test_a_forbidden_read_of_the_rollout_ends_the_wait(
    cluster: ClusterServer, tmp_path: Path, fault: Fault, said: str
) -> None:
    cluster.fail("PATCH", "deployments", meanwhile(lambda: cluster.fail("GET", "deployments", fault)))
    found = await failure(cluster, tmp_path, RESTART)
    assert found == f"restarted deployment/web in namespace shop, but: {said}"


async def test_a_rollout_past_its_progress_deadline_fails_at_once(
    cluster: ClusterServer, tmp_path: Path
) -> None:
    cluster.steps.append(
        {
            "replicas": 4,
            "updatedReplicas": 1,
            "availableReplicas": 3,
            "conditions": [progressing("ProgressDeadlineExceeded", at="2026-05-07T12:10:00Z")],
        }
    )
    found = await failure(cluster, tmp_path, RESTART)
    assert found == (
        "restarted deployment/web in namespace shop, but: "
        "the progress deadline passed: 1 of 3 replicas updated"
    )


async def test_the_progress_deadline_of_the_previous_rollout_does_not_count(
    cluster: ClusterServer, tmp_path: Path
) -> None:
    stuck = deployment()
    stuck["status"] |= {"updatedReplicas": 1, "conditions": [progressing("ProgressDeadlineExceeded")]}
    cluster.add(stuck)
    cluster.steps.extend([{"updatedReplicas": 0}, {**HEALTHY, "conditions": []}])
    assert (await run(cluster, tmp_path, RESTART)).startswith("restarted deployment/web")


async def test_credentials_are_read_for_each_run(cluster: ClusterServer, tmp_path: Path) -> None:
    executor = executor_for(cluster, tmp_path)
    kubeconfig = tmp_path / "kubeconfig"
    good = kubeconfig.read_text()
    kubeconfig.write_text(good.replace("token:", "was:"))
    with pytest.raises(OperationFailedError, match="does not accept the service's credentials"):
        await executor.run(parse_action(RESTART), context())
    kubeconfig.write_text("clusters: [private-detail")
    with pytest.raises(OperationFailedError, match=r"^the credentials for the cluster cannot be used: \w+$"):
        await executor.run(parse_action(RESTART), context())
    kubeconfig.write_text(good)
    cluster.steps.append(HEALTHY)
    assert (await executor.run(parse_action(RESTART), context())).startswith("restarted")


async def test_a_cluster_that_repeats_the_token_does_not_make_it_known(
    cluster: ClusterServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    executor = executor_for(cluster, tmp_path)
    kubeconfig = tmp_path / "kubeconfig"
    async with echo_receiver() as echo:
        kubeconfig.write_text(kubeconfig.read_text().replace(cluster.address, echo.address()))
        with pytest.raises(OperationFailedError) as caught:
            await executor.run(parse_action(RESTART), context())
        assert echo.paths
    assert TOKEN in kubeconfig.read_text()
    assert TOKEN not in f"{caught.value!r} {caplog.text}"
