"""When a workload counts as healthy."""

from typing import Any

import pytest

from approval.executors.kubernetes.rollback import selector
from approval.executors.kubernetes.rollout import rollout
from tests.approval.unit.executors.kubernetes.objects import daemon_set, deployment, stateful_set

PARTITIONED = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}
ALL_BELOW_PARTITION = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}
PAUSED = {"paused": True}
ON_DELETE = {"updateStrategy": {"type": "OnDelete"}}


@pytest.mark.parametrize(
    ("workload", "spec", "status", "text", "is_done"),
    [
        pytest.param(
            deployment(), {}, {}, "3 of 3 replicas updated and available", True, id="Deployment healthy"
        ),
        pytest.param(
            deployment(),
            {},
            {"observedGeneration": 11},
            "the change is not yet observed by the cluster",
            False,
            id="Deployment not observed",
        ),
        pytest.param(
            deployment(), {}, {"updatedReplicas": 2}, "2 of 3 replicas updated", False, id="some not updated"
        ),
        pytest.param(
            deployment(), {}, {"replicas": 4}, "old replicas are still there: 1", False, id="old ones left"
        ),
        pytest.param(
            deployment(),
            {},
            {"availableReplicas": 2},
            "2 of 3 replicas available",
            False,
            id="some not available",
        ),
        pytest.param(
            deployment(),
            {"replicas": 2},
            {},
            "3 replicas are there, 2 are wanted",
            False,
            id="Deployment scaled down, not yet seen",
        ),
        pytest.param(
            stateful_set(), {}, {}, "2 of 2 replicas updated and ready", True, id="StatefulSet healthy"
        ),
        pytest.param(
            stateful_set(), {}, {"readyReplicas": 1}, "1 of 2 replicas ready", False, id="some not ready"
        ),
        pytest.param(
            stateful_set(),
            {},
            {"updateRevision": "db-8", "updatedReplicas": 1},
            "1 of 2 replicas updated",
            False,
            id="StatefulSet between revisions",
        ),
        pytest.param(
            stateful_set(),
            PARTITIONED,
            {"updateRevision": "db-8", "updatedReplicas": 0},
            "0 of 1 replicas above the partition updated",
            False,
            id="partition not updated",
        ),
        pytest.param(
            stateful_set(),
            PARTITIONED,
            {"updateRevision": "db-8", "updatedReplicas": 1},
            "1 of 2 replicas, those above the partition, updated; 2 ready",
            True,
            id="partition updated",
        ),
        pytest.param(
            stateful_set(),
            ON_DELETE,
            {"updateRevision": "db-8", "updatedReplicas": 0},
            "0 of 2 replicas updated, and its update strategy is OnDelete: "
            "pods stay as they are until they are deleted",
            False,
            id="OnDelete: revisions differ until somebody deletes pods",
        ),
        pytest.param(
            stateful_set(),
            ALL_BELOW_PARTITION,
            {"updateRevision": "db-8", "updatedReplicas": 0},
            "0 of 2 replicas updated, and its update partition is 2: all pods stay as they are",
            False,
            id="no pod above the partition",
        ),
        pytest.param(
            deployment(),
            PAUSED,
            {"updatedReplicas": 0},
            "0 of 3 replicas updated, and its rollouts are paused",
            False,
            id="Deployment paused before it was updated",
        ),
        pytest.param(
            deployment(),
            PAUSED,
            {},
            "3 of 3 replicas updated and available",
            True,
            id="Deployment paused after it was updated",
        ),
        pytest.param(daemon_set(), {}, {}, "4 of 4 pods updated and available", True, id="DaemonSet healthy"),
        pytest.param(
            daemon_set(), {}, {"updatedNumberScheduled": 0}, "0 of 4 pods updated", False, id="none updated"
        ),
        pytest.param(
            daemon_set(), {}, {"numberAvailable": 3}, "3 of 4 pods available", False, id="one pod missing"
        ),
    ],
)
def test_a_workload_is_healthy_by_the_rules_of_kubectl_rollout_status(
    *, workload: dict[str, Any], spec: dict[str, Any], status: dict[str, Any], text: str, is_done: bool
) -> None:
    now = {**workload, "spec": {**workload["spec"], **spec}, "status": {**workload["status"], **status}}
    found = rollout(workload["kind"].lower(), now, before=workload, changes_pods=True)
    assert (found.text, found.done, found.failed) == (text, is_done, False)


@pytest.mark.parametrize(
    ("workload", "spec", "status", "text", "is_done"),
    [
        pytest.param(
            deployment(), PAUSED, {}, "3 of 3 replicas available", True, id="paused, nothing to update"
        ),
        pytest.param(
            deployment(),
            PAUSED,
            {"updatedReplicas": 0},
            "3 of 3 replicas available, 0 of them updated: its rollouts are paused",
            True,
            id="paused with a template that does not roll",
        ),
        pytest.param(
            deployment(),
            PAUSED,
            {"availableReplicas": 2},
            "2 of 3 replicas available",
            False,
            id="paused, one missing",
        ),
        pytest.param(
            deployment(),
            {**PAUSED, "replicas": 2},
            {},
            "3 replicas are there, 2 are wanted",
            False,
            id="paused, one too many",
        ),
        pytest.param(
            deployment(),
            PAUSED,
            {"replicas": 4, "updatedReplicas": 2, "availableReplicas": 4},
            "4 of 3 replicas available, 2 of them updated: its rollouts are paused",
            True,
            id="paused between two revisions, which keeps the surge of 25%",
        ),
        pytest.param(
            deployment(),
            {**PAUSED, "strategy": {"rollingUpdate": {"maxSurge": 2}}},
            {"replicas": 6, "updatedReplicas": 2, "availableReplicas": 6},
            "6 replicas are there, 3 are wanted",
            False,
            id="more than the surge",
        ),
        pytest.param(
            stateful_set(),
            ON_DELETE,
            {"updateRevision": "db-8", "updatedReplicas": 1},
            "2 of 2 replicas ready, 1 of them updated: its update strategy is OnDelete: "
            "pods stay as they are until they are deleted",
            True,
            id="OnDelete",
        ),
        pytest.param(
            stateful_set(),
            ALL_BELOW_PARTITION,
            {"readyReplicas": 1},
            "1 of 2 replicas ready",
            False,
            id="all below the partition, one not ready",
        ),
        pytest.param(
            stateful_set(),
            {},
            {"updateRevision": "db-8", "updatedReplicas": 1},
            "1 of 2 replicas updated",
            False,
            id="in a rollout, which is waited for",
        ),
    ],
)
def test_replicas_alone_do_not_wait_for_an_update_that_cannot_come(
    *, workload: dict[str, Any], spec: dict[str, Any], status: dict[str, Any], text: str, is_done: bool
) -> None:
    now = {**workload, "spec": {**workload["spec"], **spec}, "status": {**workload["status"], **status}}
    found = rollout(workload["kind"].lower(), now, before=workload, changes_pods=False)
    assert (found.text, found.done, found.failed) == (text, is_done, False)


def test_a_selector_is_formatted_for_the_api() -> None:
    workload = {
        "spec": {
            "selector": {
                "matchLabels": {"tier": "web", "app": "shop"},
                "matchExpressions": [
                    {"key": "zone", "operator": "In", "values": ["a", "b"]},
                    {"key": "track", "operator": "NotIn", "values": ["canary"]},
                    {"key": "owner", "operator": "Exists"},
                    {"key": "legacy", "operator": "DoesNotExist"},
                ],
            }
        }
    }
    assert selector(workload) == "app=shop,tier=web,zone in (a,b),track notin (canary),owner,!legacy"
