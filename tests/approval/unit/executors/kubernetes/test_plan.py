"""A plan of the kubernetes executor: a server-side dry run that changes nothing."""

from pathlib import Path

import pytest

from approval.actions.grammar import parse_action
from approval.executors.protocol import PlanCheck
from tests.approval.unit.executors.kubernetes.cases import DELETE, RESTART, ROLLBACK, executor_for
from tests.approval.unit.executors.kubernetes.cluster_faults import drop, status
from tests.approval.unit.executors.kubernetes.cluster_server import ClusterServer, Fault
from tests.approval.unit.executors.kubernetes.objects import deployment, replica_set


async def plan(cluster: ClusterServer, folder: Path, action: str) -> list[PlanCheck]:
    """The plan of an action, without the two checks of what is allowed."""
    return list(await executor_for(cluster, folder).plan(parse_action(action)))[2:]


@pytest.mark.parametrize(
    ("action", "exists", "accepted"),
    [
        pytest.param(
            RESTART,
            "3 replicas, revision 7",
            "the cluster would accept: restarted deployment/web in namespace shop",
            id="restart",
        ),
        pytest.param(
            "SCALE statefulset/db --replicas=4 -n shop",
            "2 replicas, revision db-7",
            "the cluster would accept: scaled statefulset/db in namespace shop from 2 to 4",
            id="scale",
        ),
        pytest.param(
            "RESTART daemonset/agent -n shop",
            "4 pods",
            "the cluster would accept: restarted daemonset/agent in namespace shop",
            id="restart a DaemonSet",
        ),
        pytest.param(
            ROLLBACK,
            "3 replicas, revision 7",
            "the cluster would accept: rolled deployment/web in namespace shop back from revision 7 to 6",
            id="roll back",
        ),
        pytest.param(
            DELETE,
            "the pod is Running, and ReplicaSet/web-7 owns it",
            "the cluster would accept: deleted pod/web-7-abcde in namespace shop",
            id="delete",
        ),
    ],
)
async def test_a_plan_describes_the_object_and_checks_the_change_by_a_dry_run(
    cluster: ClusterServer, tmp_path: Path, action: str, exists: str, accepted: str
) -> None:
    web = deployment()
    cluster.add(*(replica_set(web, revision=number, image=f"web:{number}") for number in (6, 7)))
    before = {key: dict(found) for key, found in cluster.objects.items()}
    assert await plan(cluster, tmp_path, action) == [
        PlanCheck("object_exists", passed=True, message=exists),
        PlanCheck("change_accepted", passed=True, message=accepted),
    ]
    assert cluster.objects == before
    assert cluster.changes() == []
    assert sum(each.is_dry_run for each in cluster.seen) == 1


async def test_a_plan_checks_the_allow_list_first(cluster: ClusterServer, tmp_path: Path) -> None:
    checks = await executor_for(cluster, tmp_path).plan(parse_action(RESTART))
    assert [(check.name, check.message) for check in checks[:2]] == [
        ("namespace_allowed", "shop is allowed"),
        ("kind_allowed", "deployment is allowed"),
    ]


@pytest.mark.parametrize(
    ("action", "method", "fault", "failed"),
    [
        pytest.param(
            RESTART,
            "GET",
            status(404),
            PlanCheck("object_exists", passed=False, message="there is no deployment/web in namespace shop"),
            id="not found",
        ),
        pytest.param(
            RESTART,
            "PATCH",
            status(403),
            PlanCheck(
                "change_accepted",
                passed=False,
                message="forbidden: the service may not patch deployment/web in namespace shop",
            ),
            id="forbidden",
        ),
        pytest.param(
            RESTART,
            "PATCH",
            drop,
            PlanCheck(
                "change_accepted",
                passed=False,
                message="the connection to the cluster failed when it was asked to patch deployment/web "
                "in namespace shop, ServerDisconnectedError",
            ),
            id="dropped: a dry run cannot have happened",
        ),
        pytest.param(
            ROLLBACK,
            "POST",
            drop,
            PlanCheck(
                "change_accepted",
                passed=False,
                message="deployment/web in namespace shop cannot be rolled back: there is no previous revision",
            ),
            id="nothing to roll back to",
        ),
    ],
)
async def test_a_change_that_would_fail_is_a_failed_check(
    *, cluster: ClusterServer, tmp_path: Path, action: str, method: str, fault: Fault, failed: PlanCheck
) -> None:
    cluster.fail(method, "deployments", fault)
    assert (await plan(cluster, tmp_path, action))[-1] == failed
