"""DELETE of a pod that nothing creates again: said in the plan, and only where the allow-list permits it."""

from pathlib import Path

import pytest

from approval.actions.grammar import parse_action
from approval.executors.kubernetes.allow_list import AllowList
from approval.executors.protocol import OperationFailedError, PlanCheck
from tests.approval.unit.executors.kubernetes.cases import DELETE, EVERYTHING, context, executor_for
from tests.approval.unit.executors.kubernetes.cluster_server import ClusterServer, Json
from tests.approval.unit.executors.kubernetes.objects import NAMESPACE, pod

PODS = AllowList(frozenset([NAMESPACE]), frozenset(["pod"]))
REFUSED = (
    "pod/web-7-abcde in namespace shop has no owner that would create another: "
    "APPROVAL_KUBERNETES_KINDS does not allow pod-without-owner"
)


def _of_a_mere_owner() -> Json:
    """A pod whose owner controls nothing: it would not create another."""
    found = pod()
    found["metadata"]["ownerReferences"][0]["controller"] = False
    return found


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(pod(is_owned=False), id="no owner"),
        pytest.param(_of_a_mere_owner(), id="an owner that is no controller"),
    ],
)
async def test_a_pod_without_an_owner_is_not_deleted_unless_that_is_allowed(
    cluster: ClusterServer, tmp_path: Path, found: Json
) -> None:
    cluster.add(found)
    executor = executor_for(cluster, tmp_path, allowed=PODS)
    assert (await executor.plan(parse_action(DELETE)))[2:] == [
        PlanCheck(
            "object_exists",
            passed=True,
            message="the pod is Running, and has no owner that creates another",
        ),
        PlanCheck("change_accepted", passed=False, message=REFUSED),
    ]
    with pytest.raises(OperationFailedError, match=f"^{REFUSED}$"):
        await executor.run(parse_action(DELETE), context())
    assert {request.method for request in cluster.seen} == {"GET"}


async def test_a_pod_without_an_owner_is_deleted_where_that_is_allowed(
    cluster: ClusterServer, tmp_path: Path
) -> None:
    cluster.add(pod(is_owned=False))
    executor = executor_for(cluster, tmp_path, allowed=EVERYTHING)
    target = "deleted pod/web-7-abcde in namespace shop, which has no owner that creates another"
    assert (await executor.plan(parse_action(DELETE)))[-1] == PlanCheck(
        "change_accepted", passed=True, message=f"the cluster would accept: {target}"
    )
    assert await executor.run(parse_action(DELETE), context()) == f"{target}: it is gone"


async def test_pods_without_an_owner_are_no_pods_in_general(cluster: ClusterServer, tmp_path: Path) -> None:
    allowed = AllowList(frozenset([NAMESPACE]), frozenset(["pod-without-owner"]))
    with pytest.raises(OperationFailedError, match=r"^pod is not allowed"):
        await executor_for(cluster, tmp_path, allowed=allowed).run(parse_action(DELETE), context())
    assert cluster.seen == []


async def test_the_mirror_of_a_static_pod_is_not_deleted(cluster: ClusterServer, tmp_path: Path) -> None:
    static = pod()
    static["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "a1b2"}
    static["metadata"]["ownerReferences"][0] |= {"kind": "Node", "name": "node-1"}
    cluster.add(static)
    with pytest.raises(OperationFailedError, match=r"it is the mirror of a static pod, which its node runs$"):
        await executor_for(cluster, tmp_path).run(parse_action(DELETE), context())
    assert cluster.changes() == []
