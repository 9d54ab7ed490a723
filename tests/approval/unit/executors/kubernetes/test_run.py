"""Runs of the kubernetes executor: restart, scale, delete."""

from datetime import datetime
from pathlib import Path

import pytest

from approval.actions.grammar import parse_action
from approval.executors.kubernetes.allow_list import AllowList
from approval.executors.protocol import OperationFailedError
from tests.approval.unit.executors.kubernetes.cases import (
    DELETE,
    HEALTHY,
    RESTART,
    UNOBSERVED,
    context,
    executor_for,
    failure,
    run,
)
from tests.approval.unit.executors.kubernetes.cluster_faults import meanwhile
from tests.approval.unit.executors.kubernetes.cluster_server import ClusterServer
from tests.approval.unit.executors.kubernetes.objects import (
    daemon_set,
    deployment,
    ending,
    pod,
    template,
)


async def test_a_restart_annotates_the_pod_template_and_waits_for_the_rollout(
    cluster: ClusterServer, tmp_path: Path
) -> None:
    cluster.steps.extend(
        [
            UNOBSERVED,
            {"replicas": 4, "updatedReplicas": 1, "availableReplicas": 3},
            {"replicas": 4, "updatedReplicas": 3, "availableReplicas": 3},
            {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 2},
            HEALTHY,
        ]
    )
    said = await run(cluster, tmp_path, RESTART)
    assert said == "restarted deployment/web in namespace shop: 3 of 3 replicas updated and available"
    [change] = cluster.changes()
    assert (change.method, change.path) == ("PATCH", "/apis/apps/v1/namespaces/shop/deployments/web")
    assert change.content_type == "application/strategic-merge-patch+json"
    [restarted_at] = change.body["spec"]["template"]["metadata"]["annotations"].values()
    assert datetime.fromisoformat(restarted_at).tzinfo is not None
    found = cluster.get("deployments", "web")["spec"]["template"]
    assert found["metadata"]["annotations"] == {"kubectl.kubernetes.io/restartedAt": restarted_at}
    assert found["spec"] == template("web:7")["spec"]
    assert [each.method for each in cluster.seen] == ["GET", "PATCH", *["GET"] * 5]


@pytest.mark.parametrize(
    ("action", "steps", "said"),
    [
        pytest.param(
            "RESTART statefulset/db -n shop",
            [
                {"readyReplicas": 1, "updateRevision": "db-8"},
                {"readyReplicas": 2, "updatedReplicas": 1, "updateRevision": "db-8"},
                {
                    "readyReplicas": 2,
                    "updatedReplicas": 2,
                    "currentRevision": "db-8",
                    "updateRevision": "db-8",
                },
            ],
            "restarted statefulset/db in namespace shop: 2 of 2 replicas updated and ready",
            id="a StatefulSet",
        ),
        pytest.param(
            "RESTART daemonset/agent -n shop",
            [
                {"updatedNumberScheduled": 1, "numberAvailable": 3},
                {"updatedNumberScheduled": 4, "numberAvailable": 3},
                {"updatedNumberScheduled": 4, "numberAvailable": 4},
            ],
            "restarted daemonset/agent in namespace shop: 4 of 4 pods updated and available",
            id="a DaemonSet",
        ),
    ],
)
async def test_other_workloads_are_restarted_and_waited_for_too(
    cluster: ClusterServer, tmp_path: Path, action: str, steps: list[dict[str, object]], said: str
) -> None:
    cluster.steps.extend(steps)
    assert await run(cluster, tmp_path, action) == said
    assert len(cluster.steps) == 1


@pytest.mark.parametrize(
    ("action", "steps", "said"),
    [
        pytest.param(
            "SCALE deployment/web --replicas=5 -n shop",
            [
                UNOBSERVED,
                {"replicas": 5, "updatedReplicas": 5, "availableReplicas": 3},
                {"replicas": 5, "updatedReplicas": 5, "availableReplicas": 5},
            ],
            "scaled deployment/web in namespace shop from 3 to 5: 5 of 5 replicas updated and available",
            id="a Deployment up",
        ),
        pytest.param(
            "SCALE deployment/web --replicas=0 -n shop",
            [
                {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3},
                {"replicas": 0, "updatedReplicas": 0, "availableReplicas": 0},
            ],
            "scaled deployment/web in namespace shop from 3 to 0: 0 of 0 replicas updated and available",
            id="a Deployment to nothing",
        ),
        pytest.param(
            "SCALE statefulset/db --replicas=1 -n shop",
            [{"replicas": 2, "readyReplicas": 2}, {"replicas": 1, "readyReplicas": 1}],
            "scaled statefulset/db in namespace shop from 2 to 1: 1 of 1 replicas updated and ready",
            id="a StatefulSet down",
        ),
    ],
)
async def test_a_scale_sets_the_replicas_and_waits_for_them(
    cluster: ClusterServer, tmp_path: Path, action: str, steps: list[dict[str, int]], said: str
) -> None:
    cluster.steps.extend(steps)
    assert await run(cluster, tmp_path, action) == said
    [change] = cluster.changes()
    operation = parse_action(action)
    workload = f"{operation.resource_kind}s/{operation.name}"
    assert change.path == f"/apis/apps/v1/namespaces/shop/{workload}/scale"
    assert change.body == {"spec": {"replicas": operation.replicas}}
    assert len(cluster.steps) == 1


@pytest.mark.parametrize("verb", ["RESTART", "ROLLBACK"])
async def test_a_workload_that_would_not_roll_is_not_changed(
    cluster: ClusterServer, tmp_path: Path, verb: str
) -> None:
    paused, manual = deployment(), daemon_set()
    paused["spec"]["paused"] = True
    manual["spec"]["updateStrategy"] = {"type": "OnDelete"}
    cluster.add(paused, manual)
    assert "its rollouts are paused" in await failure(cluster, tmp_path, f"{verb} deployment/web -n shop")
    assert "is OnDelete" in await failure(cluster, tmp_path, f"{verb} daemonset/agent -n shop")
    assert cluster.changes() == []


async def test_a_deleted_pod_is_waited_for_until_it_is_gone(cluster: ClusterServer, tmp_path: Path) -> None:
    cluster.after_delete.clear()
    cluster.after_delete.extend([ending(pod()), ending(pod()), None])
    said = await run(cluster, tmp_path, DELETE)
    assert said == "deleted pod/web-7-abcde in namespace shop: it is gone"
    [change] = cluster.changes()
    assert (change.method, change.path) == ("DELETE", "/api/v1/namespaces/shop/pods/web-7-abcde")
    assert change.body == {"preconditions": {"uid": pod()["metadata"]["uid"]}}


async def test_a_deleted_pod_of_a_stateful_set_is_replaced_under_its_name(
    cluster: ClusterServer, tmp_path: Path
) -> None:
    cluster.after_delete.clear()
    cluster.after_delete.extend([ending(pod()), pod(uid="another")])
    said = await run(cluster, tmp_path, DELETE)
    assert said == "deleted pod/web-7-abcde in namespace shop: another pod has taken its name"


@pytest.mark.parametrize(
    ("successor", "said"),
    [
        pytest.param(None, "it is gone", id="gone"),
        pytest.param(pod(uid="another"), "another pod has taken its name", id="replaced"),
    ],
)
async def test_a_pod_that_was_deleted_concurrently_costs_no_other_pod_its_life(
    cluster: ClusterServer, tmp_path: Path, successor: dict[str, object] | None, said: str
) -> None:
    def lose() -> None:
        del cluster.objects["pods", "web-7-abcde"]
        if successor:
            cluster.add(successor)

    cluster.fail("DELETE", "pods", meanwhile(lose))
    found = await run(cluster, tmp_path, DELETE)
    assert found == f"did not have to delete pod/web-7-abcde in namespace shop: {said}"
    assert len(cluster.changes()) == 1


@pytest.mark.parametrize(
    ("allowed", "reason"),
    [
        pytest.param(
            AllowList(frozenset(), frozenset(["deployment"])),
            "shop is not allowed: APPROVAL_KUBERNETES_NAMESPACES allows nothing",
            id="no namespace",
        ),
        pytest.param(
            AllowList(frozenset(["blog"]), frozenset(["deployment"])),
            "shop is not allowed: APPROVAL_KUBERNETES_NAMESPACES allows blog",
            id="another namespace",
        ),
        pytest.param(
            AllowList(frozenset(["shop"]), frozenset(["pod"])),
            "deployment is not allowed: APPROVAL_KUBERNETES_KINDS allows pod",
            id="another kind",
        ),
    ],
)
async def test_an_object_that_is_not_allowed_is_not_read(
    cluster: ClusterServer, tmp_path: Path, allowed: AllowList, reason: str
) -> None:
    executor = executor_for(cluster, tmp_path, allowed=allowed)
    with pytest.raises(OperationFailedError, match=f"^{reason}$"):
        await executor.run(parse_action(RESTART), context())
    [failed] = [check for check in await executor.plan(parse_action(RESTART)) if not check.passed]
    assert failed.message == reason
    assert cluster.seen == []
