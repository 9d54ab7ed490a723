"""What an operation wrote is part of what is waited for: a change that was undone meanwhile has failed."""

import copy
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import pytest

from approval.actions.grammar import parse_action
from approval.executors.kubernetes import changes
from approval.executors.kubernetes.written import RESTARTED_AT
from tests.approval.unit.executors.kubernetes.cases import (
    HEALTHY,
    RESTART,
    ROLLBACK,
    context,
    executor_for,
    failure,
    run,
)
from tests.approval.unit.executors.kubernetes.cluster_faults import afterwards
from tests.approval.unit.executors.kubernetes.cluster_server import ClusterServer, Json
from tests.approval.unit.executors.kubernetes.objects import (
    controller_revision,
    daemon_set,
    deployment,
    ending,
    replica_set,
    stateful_set,
)

SCALE = "SCALE deployment/web --replicas=5 -n shop"
WORKLOADS: Mapping[str, Callable[[], Json]] = {
    "deployment": deployment,
    "statefulset": stateful_set,
    "daemonset": daemon_set,
}


@pytest.fixture(autouse=True)
def revisions(cluster: ClusterServer) -> None:
    """A revision before, of each workload."""
    web, db, agent = deployment(), stateful_set(), daemon_set()
    for number in (6, 7):
        cluster.add(
            replica_set(web, revision=number, image=f"web:{number}"),
            controller_revision(db, revision=number, image=f"db:{number}"),
            controller_revision(agent, revision=number, image=f"agent:{number}"),
        )


def workload_of(action: str) -> tuple[str, str]:
    """The resource and the name of an action's workload."""
    operation = parse_action(action)
    return f"{operation.resource_kind}s", operation.name


def other_writer(cluster: ClusterServer, action: str, change: Callable[[Json], None]) -> None:
    """Right after the change of the action, another writer changes its workload, which is observed and healthy again."""
    key = workload_of(action)

    def write() -> None:
        found = cluster.objects[key]
        change(found)
        found["metadata"]["generation"] += 1
        found["status"]["observedGeneration"] = found["metadata"]["generation"]

    cluster.fail("PATCH", key[0], afterwards(write))


@pytest.mark.parametrize(
    ("action", "said"),
    [
        pytest.param(
            SCALE,
            "scaled deployment/web in namespace shop from 3 to 5, but: "
            "it was changed back meanwhile: 3 replicas, not 5",
            id="SCALE of a Deployment",
        ),
        pytest.param(
            "SCALE statefulset/db --replicas=0 -n shop",
            "scaled statefulset/db in namespace shop from 2 to 0, but: "
            "it was changed back meanwhile: 2 replicas, not 0",
            id="SCALE of a StatefulSet",
        ),
        *(
            pytest.param(
                f"RESTART {kind}/{name} -n shop",
                f"restarted {kind}/{name} in namespace shop, but: "
                "it was changed back meanwhile: the restart is not in the pod template",
                id=f"RESTART of a {kind}",
            )
            for kind, name in (("deployment", "web"), ("statefulset", "db"), ("daemonset", "agent"))
        ),
        *(
            pytest.param(
                f"ROLLBACK {kind}/{name} -n shop",
                f"rolled {kind}/{name} in namespace shop back from revision 7 to 6, but: "
                "it was changed back meanwhile: the pod template is not the one that was written",
                id=f"ROLLBACK of a {kind}",
            )
            for kind, name in (("deployment", "web"), ("statefulset", "db"), ("daemonset", "agent"))
        ),
    ],
)
async def test_a_change_that_was_undone_fails(
    cluster: ClusterServer, tmp_path: Path, action: str, said: str
) -> None:
    before = copy.deepcopy(cluster.objects[workload_of(action)]["spec"])
    other_writer(cluster, action, lambda found: found.update(spec=before))
    assert await failure(cluster, tmp_path, action) == said
    assert len(cluster.changes()) == 1


async def test_an_undone_restart_names_the_restart_before(cluster: ClusterServer, tmp_path: Path) -> None:
    found = cluster.get("deployments", "web")
    found["spec"]["template"]["metadata"]["annotations"] = {RESTARTED_AT: "2026-05-07T08:00:00Z"}
    before = copy.deepcopy(found["spec"])
    other_writer(cluster, RESTART, lambda found: found.update(spec=before))
    said = await failure(cluster, tmp_path, RESTART)
    assert " but: it was changed back meanwhile: restarted at 2026-05-07T08:00:00Z, not 2" in said


def _replicas(found: Json) -> None:
    found["spec"]["replicas"] = 4


def _restart(found: Json) -> None:
    found["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT] = "2040-01-01T00:00:00Z"


def _image(found: Json) -> None:
    found["spec"]["template"]["spec"]["containers"][0]["image"] = "web:8"


@pytest.mark.parametrize(
    ("action", "change", "said"),
    [
        pytest.param(
            SCALE, _replicas, "it was changed meanwhile: 4 replicas, not 5", id="another number of replicas"
        ),
        pytest.param(
            RESTART,
            _restart,
            "it was changed meanwhile: restarted at 2040-01-01T00:00:00Z, not 2",
            id="another restart",
        ),
        pytest.param(
            ROLLBACK,
            _image,
            "it was changed meanwhile: the pod template is not the one that was written",
            id="another release",
        ),
    ],
)
async def test_a_change_that_another_writer_replaced_fails(
    cluster: ClusterServer, tmp_path: Path, action: str, change: Callable[[Json], None], said: str
) -> None:
    other_writer(cluster, action, change)
    assert f", but: {said}" in await failure(cluster, tmp_path, action)


@pytest.mark.parametrize("action", [SCALE, RESTART, ROLLBACK])
async def test_a_change_that_another_writer_left_alone_succeeds(
    cluster: ClusterServer, tmp_path: Path, action: str
) -> None:
    other_writer(cluster, action, lambda found: found["metadata"]["labels"].update(touched="yes"))
    replicas = 5 if action == SCALE else 3
    cluster.steps.append(dict.fromkeys(HEALTHY, replicas))
    assert (await run(cluster, tmp_path, action)).endswith(
        f"{replicas} of {replicas} replicas updated and available"
    )


@pytest.mark.parametrize("action", [SCALE, RESTART, ROLLBACK])
async def test_a_workload_that_was_deleted_and_created_again_fails(
    cluster: ClusterServer, tmp_path: Path, action: str
) -> None:
    other_writer(cluster, action, lambda found: found["metadata"].update(uid="another"))
    said = await failure(cluster, tmp_path, action)
    assert said.endswith(", but: it was deleted meanwhile, and another has taken its name")


@pytest.mark.parametrize("action", [SCALE, RESTART, ROLLBACK])
async def test_a_workload_that_is_being_deleted_fails(
    cluster: ClusterServer, tmp_path: Path, action: str
) -> None:
    other_writer(cluster, action, lambda found: found.update(ending(found)))
    assert (await failure(cluster, tmp_path, action)).endswith(", but: it is being deleted")
    said = await failure(cluster, tmp_path, action)
    assert said == "deployment/web in namespace shop would not change: it is being deleted"
    assert len(cluster.changes()) == 1


def _keep(cluster: ClusterServer, action: str) -> None:
    """An admission webhook puts the workload back before it is stored: for the dry run, and for the change."""
    key = workload_of(action)
    before = copy.deepcopy(cluster.objects[key])

    def admit(stored: Json) -> Json:
        return {**stored, "spec": {**stored["spec"], **before["spec"]}}

    cluster.admission = admit


@pytest.mark.parametrize(
    ("action", "said"),
    [
        pytest.param(
            SCALE,
            "deployment/web in namespace shop was changed back by the cluster: 3 replicas, not 5",
            id="SCALE",
        ),
        pytest.param(
            RESTART,
            "deployment/web in namespace shop was changed back by the cluster: "
            "the restart is not in the pod template",
            id="RESTART",
        ),
        pytest.param(
            ROLLBACK,
            "deployment/web in namespace shop was changed back by the cluster: the pod template is as it was",
            id="ROLLBACK",
        ),
    ],
)
async def test_a_change_that_an_admission_webhook_puts_back_fails_and_its_plan_says_so(
    cluster: ClusterServer, tmp_path: Path, action: str, said: str
) -> None:
    _keep(cluster, action)
    checks = await executor_for(cluster, tmp_path).plan(parse_action(action))
    assert [check.message for check in checks if not check.passed] == [said]
    assert await failure(cluster, tmp_path, action) == said


async def test_two_restarts_at_the_same_moment_restart_twice(
    cluster: ClusterServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Stopped":
            return cls(2026, 5, 7, 12, tzinfo=tz or UTC)

    monkeypatch.setattr(changes, "datetime", Stopped)
    cluster.steps.append(HEALTHY)
    executor = executor_for(cluster, tmp_path)
    generations, times = [], set()
    for _ in range(3):
        await executor.run(parse_action(RESTART), context())
        found = cluster.get("deployments", "web")
        generations.append(found["metadata"]["generation"])
        times.add(found["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT])
    assert generations == [13, 14, 15]
    assert len(times) == len(set(map(datetime.fromisoformat, times))) > 1


@pytest.mark.parametrize(
    ("kind", "name", "spec", "reason"),
    [
        pytest.param("deployment", "web", {"paused": True}, "its rollouts are paused", id="paused"),
        pytest.param(
            "statefulset", "db", {"updateStrategy": {"type": "OnDelete"}}, "is OnDelete", id="OnDelete"
        ),
        pytest.param(
            "statefulset",
            "db",
            {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}},
            "its update partition is 2",
            id="all pods below the partition",
        ),
    ],
)
async def test_a_workload_whose_pods_are_not_replaced_is_scaled(
    cluster: ClusterServer, tmp_path: Path, *, kind: str, name: str, spec: Json, reason: str
) -> None:
    workload = WORKLOADS[kind]()
    workload["spec"].update(spec)
    cluster.add(workload)
    assert reason in await failure(cluster, tmp_path, f"RESTART {kind}/{name} -n shop")
    cluster.steps.append({"replicas": 1, "updatedReplicas": 0, "availableReplicas": 1, "readyReplicas": 1})
    said = await run(cluster, tmp_path, f"SCALE {kind}/{name} --replicas=1 -n shop")
    assert said.startswith(f"scaled {kind}/{name} in namespace shop from ")
    assert "1 of 1 replicas " in said
    assert reason in said
