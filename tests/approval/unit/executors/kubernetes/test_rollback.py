"""To what the kubernetes executor rolls a workload back."""

from pathlib import Path

import pytest

from tests.approval.unit.executors.kubernetes.cases import HEALTHY, ROLLBACK, failure, run
from tests.approval.unit.executors.kubernetes.cluster_faults import meanwhile
from tests.approval.unit.executors.kubernetes.cluster_server import ClusterServer
from tests.approval.unit.executors.kubernetes.objects import (
    controller_revision,
    daemon_set,
    deployment,
    replica_set,
    stateful_set,
    template,
)


async def test_a_deployment_is_rolled_back_to_the_template_of_its_second_newest_replica_set(
    cluster: ClusterServer, tmp_path: Path
) -> None:
    web, stranger = deployment(), deployment("other")
    cluster.add(
        replica_set(web, revision=4, image="web:4"),
        replica_set(web, revision=6, image="web:6"),
        replica_set(web, revision=7, image="web:7"),
        # With the same labels, and owned by another workload: the selector alone does not tell them apart.
        replica_set(stranger, revision=9, image="other:9"),
    )
    cluster.steps.append(HEALTHY)
    said = await run(cluster, tmp_path, ROLLBACK)
    assert said == (
        "rolled deployment/web in namespace shop back from revision 7 to 6: "
        "3 of 3 replicas updated and available"
    )
    after = cluster.get("deployments", "web")
    # Without the hash, and with every field that the cluster keeps, known to this client or not.
    assert after["spec"]["template"] == template("web:6")
    assert after["metadata"]["annotations"] == {
        "deployment.kubernetes.io/revision": "7",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "kubernetes.io/change-cause": "release 6",
    }
    assert after["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("action", "key", "workload"),
    [
        pytest.param(
            "ROLLBACK statefulset/db -n shop", ("statefulsets", "db"), stateful_set(), id="a StatefulSet"
        ),
        pytest.param(
            "ROLLBACK daemonset/agent -n shop", ("daemonsets", "agent"), daemon_set(), id="a DaemonSet"
        ),
    ],
)
async def test_other_workloads_are_rolled_back_to_their_second_newest_controller_revision(
    cluster: ClusterServer, tmp_path: Path, action: str, key: tuple[str, str], workload: dict[str, object]
) -> None:
    cluster.add(
        controller_revision(workload, revision=12, image="new"),
        controller_revision(workload, revision=9, image="older"),
        controller_revision(workload, revision=11, image="old"),
    )
    cluster.steps.append({})
    said = await run(cluster, tmp_path, action)
    assert " back from revision 12 to 11: " in said
    assert cluster.get(*key)["spec"]["template"] == template("old")


async def test_a_rollback_that_conflicts_with_a_concurrent_change_is_planned_again(
    cluster: ClusterServer, tmp_path: Path
) -> None:
    web = deployment()
    cluster.add(*(replica_set(web, revision=number, image=f"web:{number}") for number in (6, 7)))

    def release() -> None:
        newer = deployment(image="web:8", revision=8)
        newer["metadata"]["resourceVersion"] = "4712"
        cluster.add(newer, replica_set(web, revision=8, image="web:8"))

    cluster.fail("PATCH", "deployments", meanwhile(release))
    cluster.steps.append(HEALTHY)
    said = await run(cluster, tmp_path, ROLLBACK)
    assert " back from revision 8 to 7: " in said
    assert cluster.get("deployments", "web")["spec"]["template"] == template("web:7")


async def test_a_rollback_waits_until_the_last_change_has_a_revision(
    cluster: ClusterServer, tmp_path: Path
) -> None:
    web = deployment(image="web:8")
    web["metadata"]["generation"] = 13
    cluster.add(web, *(replica_set(web, revision=number, image=f"web:{number}") for number in (6, 7)))
    said = await failure(cluster, tmp_path, ROLLBACK)
    assert said == "the last change of deployment/web in namespace shop is not yet observed by the cluster"
    assert cluster.changes() == []


@pytest.mark.parametrize(
    ("revisions", "reason"),
    [
        pytest.param([], "there is no previous revision", id="no revision"),
        pytest.param([(7, "web:7")], "there is no previous revision", id="one revision"),
        pytest.param(
            [(6, "web:7"), (7, "web:7")],
            "the previous revision is the same as the current one",
            id="two of the same",
        ),
    ],
)
async def test_without_a_previous_revision_nothing_is_changed(
    cluster: ClusterServer, tmp_path: Path, revisions: list[tuple[int, str]], reason: str
) -> None:
    web = deployment()
    cluster.add(*(replica_set(web, revision=number, image=image) for number, image in revisions))
    said = await failure(cluster, tmp_path, ROLLBACK)
    assert said == f"deployment/web in namespace shop cannot be rolled back: {reason}"
    assert cluster.changes() == []
